# SPDX-License-Identifier: Apache-2.0
FROM scratch
COPY out-of-window /out-of-window
ENTRYPOINT ["/out-of-window"]
