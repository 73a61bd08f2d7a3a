# SPDX-License-Identifier: Apache-2.0
FROM debian:bookworm-slim
COPY agnhost /agnhost
ENTRYPOINT ["/agnhost"]
CMD ["pause"]
