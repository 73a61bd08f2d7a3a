# SPDX-License-Identifier: Apache-2.0
FROM debian:bookworm-slim
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends bind9-dnsutils curl iproute2 netcat-openbsd wget \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log
COPY coredns agnhost /
ENTRYPOINT ["/agnhost"]
CMD ["pause"]
