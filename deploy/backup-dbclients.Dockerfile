# The program of deploy/backup.Dockerfile beside client programs of databases, for `backup dump --link`. BASE is a Debian
# with these packages, made by deploy/images.sh backup-dbclients without any registry.
ARG BASE=chores/dbclients-base
FROM $BASE
ARG VERSION
# ssh-gateway enters it for nobody: it may hold the engine's socket.
LABEL chores.ssh.enable="false"
LABEL org.opencontainers.image.title="chores/backup-dbclients" \
      org.opencontainers.image.description="A volume and dump backup streamer with clients of MariaDB, PostgreSQL, Redis and SQLite" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY backup /backup
ENTRYPOINT ["/backup"]
