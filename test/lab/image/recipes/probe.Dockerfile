# SPDX-License-Identifier: Apache-2.0
FROM scratch
COPY probe /probe
ENTRYPOINT ["/probe"]
CMD ["pause"]
