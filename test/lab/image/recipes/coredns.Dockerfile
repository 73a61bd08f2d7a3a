# SPDX-License-Identifier: Apache-2.0
FROM scratch
COPY coredns /coredns
ENTRYPOINT ["/coredns"]
