# SPDX-License-Identifier: Apache-2.0
FROM debian:bookworm-slim AS debian
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends busybox-static \
    && mkdir -p /image/bin /image/tmp \
    && cp /bin/busybox /image/bin/ \
    && for program in $(/bin/busybox --list); do [ "$program" = busybox ] || ln -s busybox "/image/bin/$program"; done

FROM scratch
COPY --from=debian /image /
ENV PATH=/bin
CMD ["sh"]
