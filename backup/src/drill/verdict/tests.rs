use super::*;

#[test]
fn rows_and_checks_are_read() {
    let verdict =
        read(b"rows=shop.a=b=7\nrows=shop.c=0\nshop.c\tcheck\tstatus\tOK\nchecked=check-table\n");
    assert_eq!(
        verdict.rows,
        BTreeMap::from([("shop.a=b".to_owned(), 7), ("shop.c".to_owned(), 0)])
    );
    assert_eq!((verdict.table_count, verdict.problem), (2, None));
    assert_eq!(verdict.checks, ["check-table"]);
}

#[test]
fn a_damaged_table_is_a_problem() {
    let lines =
        b"shop.c\tcheck\tWarning\tsomething\nshop.c\tcheck\terror\tCorrupt\nchecked=check-table\n";
    assert_eq!(read(lines).problem.unwrap(), "the table shop.c is damaged: Corrupt");
    let lines = b"shop.c\tcheck\tstatus\tOperation failed\nchecked=check-table\n";
    assert!(read(lines).problem.is_some());
    let note = b"shop.v\tcheck\tnote\tThe storage engine for the table doesn't support check\nchecked=check-table\n";
    assert_eq!(read(note).problem, None);
}

#[test]
fn a_server_that_looked_elsewhere_proves_nothing() {
    let checked = |directory: &str| {
        let mut verdict = read(format!("{directory}checked=save\n").as_bytes());
        verdict.expect_within(&["/srv/redis", "/data"]);
        verdict.problem
    };
    assert_eq!(checked("directory=/data\n"), None);
    assert_eq!(checked("directory=/srv/redis/deeper/\n"), None);
    let elsewhere = checked("directory=/database\n").unwrap();
    assert!(elsewhere.contains("/database") && elsewhere.contains("/srv/redis"), "{elsewhere}");
    assert!(checked("").is_some());
}

#[test]
fn a_check_without_an_end_is_a_problem() {
    assert!(read(b"rows=shop.a=7\n").problem.is_some());
    assert!(read(b"").problem.is_some());
}

#[test]
fn a_list_of_tables_has_an_end_and_their_number_has_none() {
    let lines: String = (0..TABLES_MAX + 5).map(|n| format!("rows=t{n}=1\n")).collect();
    let verdict = read(format!("{lines}checked=x\n").as_bytes());
    assert_eq!(verdict.rows.len(), TABLES_MAX);
    assert_eq!(verdict.table_count, TABLES_MAX as u64 + 5);
}
