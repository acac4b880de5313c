use super::*;

#[test]
fn rules_become_options_of_forget() {
    let retain: Retain = "last=7, daily=14,within=30d".parse().unwrap();
    let options: Vec<_> = retain.options().collect();
    assert_eq!(options, ["--keep-last=7", "--keep-daily=14", "--keep-within=30d"]);
    assert_eq!(retain.to_string(), "last=7,daily=14,within=30d");
    let json = serde_json::to_string(&retain).unwrap();
    assert_eq!(serde_json::from_str::<Retain>(&json).unwrap(), retain);
}

#[test]
fn what_would_keep_nothing_or_is_misspelt_is_refused() {
    for text in [
        "",
        "last",
        "last=0",
        "dayly=7",
        "last=-1",
        "last=1,last=2",
        "within=0s",
        "within=3",
        "last=7,",
    ] {
        let error = text.parse::<Retain>().unwrap_err().to_string();
        assert!(error.contains("last=7"), "{error}");
    }
}
