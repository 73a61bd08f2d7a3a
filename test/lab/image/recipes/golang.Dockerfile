# SPDX-License-Identifier: Apache-2.0
FROM debian:bookworm-slim
COPY VERSION go.env /usr/local/go/
COPY bin /usr/local/go/bin
COPY lib /usr/local/go/lib
COPY pkg/include /usr/local/go/pkg/include
COPY pkg/tool /usr/local/go/pkg/tool
COPY src /usr/local/go/src
ENV GOPATH=/go GOMODCACHE=/go/pkg/mod GOCACHE=/go/cache GOTOOLCHAIN=local \
    SSL_CERT_FILE=/run/lab-certs/ca-certificates.crt \
    PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
