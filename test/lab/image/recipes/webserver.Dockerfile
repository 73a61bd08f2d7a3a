# SPDX-License-Identifier: Apache-2.0
FROM scratch
COPY agnhost /agnhost
ENTRYPOINT ["/agnhost"]
CMD ["test-webserver"]
