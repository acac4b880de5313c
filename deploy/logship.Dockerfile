# One static binary and nothing else. The context is a folder with the binary in it: deploy/images.sh makes it.
FROM scratch
ARG VERSION
# ssh-gateway enters it for nobody: it may hold the engine's socket.
LABEL chores.ssh.enable="false"
LABEL org.opencontainers.image.title="chores/logship" \
      org.opencontainers.image.description="A log shipper: nothing lost in silence, nothing twice" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY logship /logship
ENTRYPOINT ["/logship"]
