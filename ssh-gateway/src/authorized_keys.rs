//! Keys and their options (sshd(8), AUTHORIZED_KEYS FILE FORMAT).
