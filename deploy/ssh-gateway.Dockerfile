# One static binary, and programs for sessions in images that have none (docs/ssh-gateway-toolbox.md). The context is a
# folder with the binary and an archive in it: deploy/images.sh makes it.
FROM scratch
ARG VERSION
# Nobody enters it: whoever did would have what it has.
LABEL chores.ssh.enable="false"
LABEL org.opencontainers.image.title="chores/ssh-gateway" \
      org.opencontainers.image.description="Shells, files and port forwards of running containers over SSH, confined as the containers are" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.licenses="Apache-2.0"
ADD toolbox.tar /toolbox/
COPY ssh-gateway /ssh-gateway
ENTRYPOINT ["/ssh-gateway"]
