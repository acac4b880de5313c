//! An SFTP server (draft-ietf-secsh-filexfer-02 and OpenSSH's extensions) on standard input and output.
