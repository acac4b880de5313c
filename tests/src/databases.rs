//! Real databases, in images made of Debian's packages that behave like the official ones.
//!
//! All four kinds stand on one Debian base. A database is ready within seconds and takes little memory. The
//! load is an unbroken sequence: n = 1, 2, 3 …, each in a transaction of its own, so whatever a backup of it
//! restores must be 1..=k without a hole.

use std::collections::BTreeSet;
use std::time::Duration;

use bollard::exec::CreateExecOptions;
use bollard::models::{ContainerConfig, HealthConfig, HealthStatusEnum};
use bollard::query_parameters::UploadToContainerOptions;
use bytes::Bytes;

use crate::engine::{Container, Engine, Output, REQUIRE_VARIABLE, Spec, Volume};
use crate::images::{self, ImageFile};
use crate::runtime::wait;
use crate::sandbox::unique_name;
use crate::ssh_gateway::wait_until;

/// The packages of all kinds: one base serves them all.
const PACKAGES: [&str; 5] =
    ["mariadb-client", "mariadb-server-core", "postgresql-15", "redis-tools", "sqlite3"];

/// How long a new database may take until it is healthy, several of them starting on a busy machine.
const READY_TIME_MAX: Duration = Duration::from_secs(300);

/// How long the load may take to end after it was told to: what is in the pipe is still written.
const LOAD_END_TIME_MAX: Duration = Duration::from_secs(60);

/// The database that [`Database::load`] and [`Database::query`] use.
pub const DATABASE: &str = "shop";

/// The table (in Redis: the list) of the load, with its numbers in column `n`.
pub const TABLE: &str = "numbers";

/// File of the database of [`Kind::Sqlite`] in its container.
pub const SQLITE_FILE: &str = "/data/app.db";

/// File that holds the password when it is not in the environment.
pub const SECRET_FILE: &str = "/run/db-password";

const LOAD: &str = include_str!("databases/load.sh");

/// Which engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// MariaDB 10.11, data in `/var/lib/mysql`.
    MariaDb,
    /// PostgreSQL 15, data in `/var/lib/postgresql/data`.
    Postgres,
    /// Redis 7.0, data in `/data`.
    Redis,
    /// A service that keeps [`SQLITE_FILE`] open in WAL mode.
    Sqlite,
}

/// Where the password of the administrator is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secret {
    /// In the environment, or for Redis in the arguments.
    Plain,
    /// In [`SECRET_FILE`], which the `…_FILE` variable names. Redis and SQLite know no such thing and have
    /// no password then.
    File,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::MariaDb, Self::Postgres, Self::Redis, Self::Sqlite];

    /// Where its data is.
    #[must_use]
    pub fn data(self) -> &'static str {
        match self {
            Self::MariaDb => "/var/lib/mysql",
            Self::Postgres => "/var/lib/postgresql/data",
            Self::Redis | Self::Sqlite => "/data",
        }
    }

    fn config(self) -> ContainerConfig {
        let health = match self {
            Self::MariaDb => "mariadb-admin --host=127.0.0.1 --silent ping",
            Self::Postgres => "pg_isready --quiet --host=127.0.0.1 --username=postgres",
            Self::Redis => "redis-cli ping | grep -q -e PONG -e NOAUTH",
            Self::Sqlite => "sqlite3 /data/app.db 'SELECT count(*) FROM opened'",
        };
        let path = "PATH=/usr/lib/postgresql/15/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let mut env = vec![path.to_owned()];
        if self == Self::Postgres {
            env.push(format!("PGDATA={}", self.data()));
        }
        ContainerConfig {
            env: Some(env),
            entrypoint: Some(vec!["/entrypoint.sh".to_owned()]),
            cmd: (self == Self::Redis).then(|| vec!["redis-server".to_owned()]),
            working_dir: (self == Self::Redis).then(|| self.data().to_owned()),
            stop_signal: (self == Self::Postgres).then(|| "SIGINT".to_owned()),
            volumes: Some(vec![self.data().to_owned()]),
            healthcheck: Some(HealthConfig {
                test: Some(vec!["CMD-SHELL".to_owned(), health.to_owned()]),
                interval: Some(1_000_000_000),
                timeout: Some(10_000_000_000),
                retries: Some(60),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn files(self) -> Vec<ImageFile> {
        let file = |path: &str, mode, content: &str| ImageFile {
            path: path.to_owned(),
            mode,
            content: content.as_bytes().to_vec(),
        };
        let entrypoint = match self {
            Self::MariaDb => include_str!("databases/mariadb.sh"),
            Self::Postgres => include_str!("databases/postgres.sh"),
            Self::Redis => include_str!("databases/redis.sh"),
            Self::Sqlite => include_str!("databases/sqlite.sh"),
        };
        let mut files = vec![
            file("entrypoint.sh", 0o755, entrypoint),
            file("secrets.sh", 0o644, include_str!("databases/secrets.sh")),
        ];
        if self == Self::MariaDb {
            let settings = include_str!("databases/mariadb.cnf");
            files.push(file("etc/mysql/conf.d/small.cnf", 0o644, settings));
        }
        files
    }

    /// The variable with the administrator's password, where there is one.
    fn password_variable(self) -> Option<&'static str> {
        match self {
            Self::MariaDb => Some("MARIADB_ROOT_PASSWORD"),
            Self::Postgres => Some("POSTGRES_PASSWORD"),
            Self::Redis | Self::Sqlite => None,
        }
    }

    /// A statement, or for Redis a command, that writes the number `%s`.
    fn insert(self) -> &'static str {
        match self {
            Self::Redis => "RPUSH numbers %s",
            _ => {
                "INSERT INTO numbers VALUES (%s, 'a row with some words in it, so that the table grows');"
            }
        }
    }
}

/// The image of a kind. `None`, with the reason on stderr, when its base cannot be made.
///
/// # Panics
/// When the engine refuses, or when there is no base and `CHORES_REQUIRE_ENGINE=1`.
#[must_use]
pub fn image(engine: &Engine, kind: Kind) -> Option<String> {
    let base = base(engine)?;
    Some(images::kept(engine, &base, &kind.files(), kind.config()))
}

/// The image below all of them: their client programs and no entry point. `None`, with the reason on stderr, when it
/// cannot be made.
///
/// # Panics
/// When the engine refuses, or when there is no base and `CHORES_REQUIRE_ENGINE=1`.
#[must_use]
pub fn base(engine: &Engine) -> Option<String> {
    let base = images::debian(engine, &PACKAGES);
    assert!(
        base.is_some() || std::env::var_os(REQUIRE_VARIABLE).is_none_or(|value| value != "1"),
        "the Debian base of the databases cannot be made"
    );
    base
}

/// A running database with a data volume of its own, removed on drop.
#[derive(Debug)]
pub struct Database {
    kind: Kind,
    password: String,
    // Removed in this order: the volume cannot go before the container that uses it.
    container: Container,
    data: Volume,
    image: String,
}

impl Database {
    /// Starts one and waits until it is healthy; [`DATABASE`] is there and empty. `None`, with the reason on
    /// stderr, when this machine cannot.
    ///
    /// # Panics
    /// When it does not get healthy.
    #[must_use]
    pub fn start(engine: &Engine, kind: Kind) -> Option<Self> {
        let database = Self::start_with(engine, kind, Secret::Plain, |_| ())?;
        database.wait_ready();
        Some(database)
    }

    /// The same with the password elsewhere and with changes to the container, which may not be healthy yet.
    /// The data volume is the first of `binds`; remove it there to go without.
    ///
    /// # Panics
    /// When the engine refuses.
    #[must_use]
    pub fn start_with(
        engine: &Engine,
        kind: Kind,
        secret: Secret,
        adjust: impl FnOnce(&mut Spec),
    ) -> Option<Self> {
        let image = image(engine, kind)?;
        let data = engine.volume();
        let mut password = format!("pw-{}", unique_name());
        let mut spec = Spec::new(&image, Vec::<String>::new());
        spec.binds.push(format!("{}:{}", data.name(), kind.data()));
        match (kind.password_variable(), secret) {
            (Some(variable), Secret::Plain) => spec.env.push(format!("{variable}={password}")),
            (Some(variable), Secret::File) => {
                spec.env.push(format!("{variable}_FILE={SECRET_FILE}"));
            }
            (None, Secret::Plain) if kind == Kind::Redis => {
                spec.command.extend(["--requirepass".to_owned(), password.clone()]);
            }
            (None, _) => password.clear(),
        }
        match kind {
            Kind::MariaDb => spec.env.push(format!("MARIADB_DATABASE={DATABASE}")),
            Kind::Postgres => spec.env.push(format!("POSTGRES_DB={DATABASE}")),
            Kind::Redis | Kind::Sqlite => {}
        }
        adjust(&mut spec);
        let container = engine.create(spec);
        if kind.password_variable().is_some() && secret == Secret::File {
            put_file(engine, &container, SECRET_FILE, password.as_bytes());
        }
        container.start();
        Some(Self { kind, password, container, data, image })
    }

    /// Which engine.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its container.
    #[must_use]
    pub fn container(&self) -> &Container {
        &self.container
    }

    /// Its image.
    #[must_use]
    pub fn image(&self) -> &str {
        &self.image
    }

    /// Its data volume.
    #[must_use]
    pub fn data(&self) -> &Volume {
        &self.data
    }

    /// The administrator's password; empty where there is none.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Waits until its health check is content.
    ///
    /// # Panics
    /// When it is not in time, with what the database said.
    pub fn wait_ready(&self) {
        wait_until(READY_TIME_MAX, "a healthy database", || {
            let state = self.container.inspect().state.unwrap_or_default();
            let health = state.health.and_then(|health| health.status);
            if health == Some(HealthStatusEnum::HEALTHY) {
                return Ok(());
            }
            let (stdout, stderr) = self.container.logs();
            let said = [stdout, stderr].concat();
            Err(format!("{:?}: {health:?}\n{}", self.kind, String::from_utf8_lossy(&said)))
        });
    }

    /// Runs statements (for Redis: commands, one a line) and returns the rows, each as its columns.
    ///
    /// # Panics
    /// When they fail.
    pub fn query(&self, statements: &str) -> Vec<Vec<String>> {
        self.query_in(DATABASE, statements)
    }

    /// The same in another database; for Redis the number of one, for SQLite the path of a file.
    ///
    /// # Panics
    /// When they fail.
    pub fn query_in(&self, database: &str, statements: &str) -> Vec<Vec<String>> {
        let output = self.client(database, statements).expect_code(0);
        let text = output.stdout_text();
        assert!(self.kind != Kind::Redis || !text.starts_with("ERR "), "{statements}: {text}");
        text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
    }

    /// Hands statements to the client, however it ends.
    #[must_use]
    pub fn client(&self, database: &str, statements: &str) -> Output {
        let script = format!("printf '%s\\n' \"$1\" | {}", self.client_command(database));
        let words = ["/bin/sh", "-c", &script, "sh", statements].map(str::to_owned);
        self.container.exec_with(CreateExecOptions {
            cmd: Some(words.to_vec()),
            env: Some(self.client_environment()),
            ..CreateExecOptions::default()
        })
    }

    /// Writes numbers until it is told to stop, beginning behind those that are there; returns when the first
    /// of them is committed.
    ///
    /// # Panics
    /// When it cannot.
    pub fn load(&self) -> Load<'_> {
        match self.kind {
            Kind::Redis => {}
            Kind::MariaDb | Kind::Postgres | Kind::Sqlite => {
                let _rows = self.query(
                    "CREATE TABLE IF NOT EXISTS numbers (n BIGINT PRIMARY KEY, words VARCHAR(200) NOT NULL);",
                );
            }
        }
        let before = self.last_number();
        let words = [
            "/bin/sh",
            "-c",
            "nohup /bin/sh -c \"$1\" load \"$2\" \"$3\" \"$4\" >/dev/null 2>&1 &",
            "sh",
            LOAD,
            &(before + 1).to_string(),
            &self.client_command(self.default_database()),
            self.kind.insert(),
        ];
        let _started = self
            .container
            .exec_with(CreateExecOptions {
                cmd: Some(words.map(str::to_owned).to_vec()),
                env: Some(self.client_environment()),
                ..CreateExecOptions::default()
            })
            .expect_code(0);
        let load = Load { database: self };
        load.wait_past(before);
        load
    }

    /// The numbers that are there, in order.
    ///
    /// # Panics
    /// When they cannot be read.
    #[must_use]
    pub fn numbers(&self) -> Vec<u64> {
        let rows = match self.kind {
            Kind::Redis => self.query("LRANGE numbers 0 -1"),
            _ => self.query("SELECT n FROM numbers ORDER BY n;"),
        };
        // An empty list of Redis is an empty line.
        let cells = rows.iter().filter_map(|row| row.first()).filter(|cell| !cell.is_empty());
        cells.map(|cell| cell.parse().unwrap_or_else(|_| panic!("no number: {cell}"))).collect()
    }

    /// The largest number committed, 0 for none.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn last_number(&self) -> u64 {
        let rows = match self.kind {
            Kind::Redis => self.query("LLEN numbers"),
            _ => self.query("SELECT coalesce(max(n), 0) FROM numbers;"),
        };
        let cell = rows.first().and_then(|row| row.first());
        cell.and_then(|cell| cell.parse().ok())
            .unwrap_or_else(|| panic!("no number of rows: {rows:?}"))
    }

    fn default_database(&self) -> &'static str {
        match self.kind {
            Kind::MariaDb | Kind::Postgres => DATABASE,
            Kind::Redis => "0",
            Kind::Sqlite => SQLITE_FILE,
        }
    }

    /// The shell command of a client that reads statements and ends at the first that fails.
    fn client_command(&self, database: &str) -> String {
        let database = if database == DATABASE { self.default_database() } else { database };
        match self.kind {
            Kind::MariaDb => {
                format!("mariadb --user=root --batch --skip-column-names '{database}'")
            }
            Kind::Postgres => format!(
                "psql --no-psqlrc --username=postgres --quiet --tuples-only --no-align \
                 --field-separator='\t' --set=ON_ERROR_STOP=1 --dbname='{database}'"
            ),
            Kind::Redis => format!("redis-cli --no-auth-warning -n '{database}'"),
            Kind::Sqlite => {
                format!("sqlite3 -bail -cmd '.timeout 20000' -separator '\t' '{database}'")
            }
        }
    }

    fn client_environment(&self) -> Vec<String> {
        match self.kind {
            Kind::MariaDb => vec![format!("MYSQL_PWD={}", self.password)],
            Kind::Redis if !self.password.is_empty() => {
                vec![format!("REDISCLI_AUTH={}", self.password)]
            }
            Kind::Redis | Kind::Postgres | Kind::Sqlite => Vec::new(),
        }
    }
}

/// A load that runs until it is stopped or its database ends.
#[derive(Debug)]
pub struct Load<'a> {
    database: &'a Database,
}

impl Load<'_> {
    /// Waits until more than `number` numbers are committed.
    ///
    /// # Panics
    /// When that takes too long, with what the client said.
    pub fn wait_past(&self, number: u64) {
        wait_until(READY_TIME_MAX, "more numbers", || {
            let last = self.database.last_number();
            if last > number { Ok(()) } else { Err(format!("only {last}: {}", self.said())) }
        });
    }

    /// Ends it and returns the largest number committed.
    ///
    /// # Panics
    /// When it does not end, or a statement failed.
    pub fn stop(self) -> u64 {
        let container = &self.database.container;
        let _made = container.sh("touch /tmp/load-stop");
        wait_until(LOAD_END_TIME_MAX, "the end of the load", || {
            let code = container.exec(["cat", "/tmp/load-ended"]).stdout_text();
            if code.is_empty() { Err(self.said()) } else { Ok(()) }
        });
        let code = container.exec(["cat", "/tmp/load-ended"]).stdout_text();
        assert_eq!(code.trim(), "0", "the load failed: {}", self.said());
        self.database.last_number()
    }

    fn said(&self) -> String {
        self.database.container.exec(["tail", "-n", "5", "/tmp/load-output"]).stdout_text()
    }
}

/// Passes when `numbers` are 1..=k without a hole, with k at least `committed`: what was committed before the
/// backup began. Returns k.
///
/// # Panics
/// When a number is missing, repeated or out of order.
pub fn assert_is_prefix(numbers: &[u64], committed: u64) -> u64 {
    let last = numbers.len() as u64;
    let present: BTreeSet<u64> = numbers.iter().copied().collect();
    let missing: Vec<u64> =
        (1..=last).filter(|number| !present.contains(number)).take(10).collect();
    assert!(missing.is_empty(), "{last} numbers, but without {missing:?} …");
    assert!(numbers.is_sorted(), "the numbers are out of order");
    assert!(last >= committed, "{committed} numbers were committed, only {last} are there");
    last
}

/// Puts a file that everybody may read into a container.
fn put_file(engine: &Engine, container: &Container, path: &str, content: &[u8]) {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o444);
    header.set_size(content.len() as u64);
    archive
        .append_data(&mut header, path.trim_start_matches('/'), content)
        .expect("an archive in memory");
    let body = Bytes::from(archive.into_inner().expect("an archive in memory"));
    let (docker, id) = (engine.docker().clone(), container.id().to_owned());
    let options = UploadToContainerOptions { path: "/".to_owned(), ..Default::default() };
    wait(async move {
        docker.upload_to_container(&id, Some(options), bollard::body_full(body)).await
    })
    .unwrap_or_else(|error| panic!("cannot put {path} into {}: {error}", container.name()));
}

#[cfg(test)]
mod tests;
