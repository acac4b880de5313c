use super::*;
use crate::database::recognise;

fn link(alias: &str, variables: &[(&str, &str)]) -> Link {
    let environment =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Link::new(alias, &environment.collect())
}

fn environment(link: &Link, kind: DumpKind) -> Vec<(String, String)> {
    let variables = link.environment(kind).into_iter();
    variables.map(|(name, value)| (name, value.expose().to_owned())).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn a_legacy_link_tells_address_kind_and_credentials() {
    let link = link(
        "shop-db",
        &[
            ("SHOP_DB_PORT", "tcp://172.17.0.5:3306"),
            ("SHOP_DB_PORT_3306_TCP", "tcp://172.17.0.5:3306"),
            ("SHOP_DB_PORT_3306_TCP_ADDR", "172.17.0.5"),
            ("SHOP_DB_PORT_33060_TCP_ADDR", "172.17.0.5"),
            ("SHOP_DB_ENV_MYSQL_ROOT_PASSWORD", "hunter2"),
            ("SHOP_DB_ENV_PATH", "/usr/bin"),
            // Would have a file of ours read, and its content offered as a password.
            ("SHOP_DB_ENV_MARIADB_ROOT_PASSWORD_FILE", "/run/secrets/aws"),
            ("SHOP_DB_ENV_MYSQL_HOST", "elsewhere"),
            ("PATH", "/bin"),
        ],
    );
    assert_eq!(recognise(&link.evidence()), Ok(DumpKind::Mysql));
    let wanted =
        [("MYSQL_ROOT_PASSWORD", "hunter2"), ("dump_host", "172.17.0.5"), ("dump_port", "3306")];
    assert_eq!(environment(&link, DumpKind::Mysql), pairs(&wanted));
    assert!(!format!("{link:?}").contains("hunter2"));
}

#[test]
fn without_one_the_alias_is_a_name_and_our_own_variables_count() {
    let named = link("db", &[("POSTGRES_PASSWORD", "ours"), ("PATH", "/bin")]);
    assert_eq!(
        environment(&named, DumpKind::Postgres),
        pairs(&[("dump_host", "db"), ("dump_port", "5432")])
    );
    let both = link(
        "db",
        &[
            ("DB_PORT_5433_TCP_ADDR", "10.0.0.2"),
            ("DB_ENV_POSTGRES_PASSWORD_FILE", "/run/secrets/there"),
            ("DB_ENV_POSTGRES_USER", "shop"),
            ("POSTGRES_PASSWORD", "ours"),
        ],
    );
    let wanted = [("POSTGRES_USER", "shop"), ("dump_host", "10.0.0.2"), ("dump_port", "5433")];
    assert_eq!(environment(&both, DumpKind::Postgres), pairs(&wanted));
}
