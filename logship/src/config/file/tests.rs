use super::*;

fn environment(name: &str) -> Option<String> {
    (name == "TOKEN").then(|| "secret".to_owned())
}

fn read_text(text: &str) -> FileConfig {
    parse(text, &environment).unwrap_or_else(|faults| panic!("{faults:?}"))
}

#[test]
fn fields_of_a_sink_are_named_in_a_table() {
    let text = "[[sink]]\nname = \"a\"\nurl = \"stdout:\"\n[sink.fields]\n\"a.b\" = \"x\"\nimage = false\n";
    let config = read_text(text);
    let options: Vec<_> = config.sinks[0].options.iter().collect();
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let expected = [pair("field.a.b", "x"), pair("field.image", "")];
    assert_eq!(options, expected.iter().map(|(key, value)| (key, value)).collect::<Vec<_>>());
    let faults = faults(&text.replace("false", "true"));
    assert!(
        faults.contains("sink[1].fields.image: it is a boolean; give a name, or false"),
        "{faults}"
    );
}

/// Every fault as it is told.
fn faults(text: &str) -> String {
    let faults = parse(text, &environment).unwrap_err();
    FileFaults { path: PathBuf::from("f.toml"), faults }.to_string()
}

#[test]
fn everything_that_can_be_set() {
    let config = read_text(
        r#"
        host = "here"
        state = "/state"
        drain = "20s"

        [wal]
        codec = "zstd"
        bytes_max = "4GiB"
        reserve = 1000
        off = false

        [engine]
        host = "tcp://proxy:2375"
        files = "/containers"
        pin = "/pins"
        api_only = true

        [metrics]
        listen = "127.0.0.1:9464"

        [redact]
        session = 'sid=(?P<secret>\w+)'

        [[source]]
        type = "engine"
        include = ["shop-*", "*/web:*"]
        exclude = "*-test"
        labels = ["team", "tier=web"]
        label_fields = ["team"]
        parse = "json"
        multiline = { start = '^\d', continue = '^\s', lines_max = 50, bytes_max = "64KiB", age = "500ms" }
        redact = ["email", "session"]
        rate = "1000/s,burst=5000"
        fields = { tier = "web" }
        sinks = ["archive"]

        [[source]]
        type = "files"
        paths = ["/logs/**/*.log"]
        exclude = ["/logs/tmp/*"]
        start = "end"
        multiline = "python"
        line_max = "64KiB"

        [[sink]]
        name = "archive"
        url = "s3://bucket/prefix"
        batch = "8MB"
        level = 3
        gzip = false
        header = ["a", "b"]
        token = "${TOKEN}"
        prefix = "${TOKEN}"
        backlog_max = "1GiB"
        "#,
    );
    assert_eq!(config.host.as_deref(), Some("here"));
    assert_eq!(config.drain, Some(Duration::from_secs(20)));
    let wal = WalConfig {
        off: false,
        codec: Some(WalCodec::Zstd),
        bytes_max: Some(4 << 30),
        reserve_bytes: Some(1000),
    };
    assert_eq!(config.wal, wal);
    assert!(config.engine.api_only);
    assert_eq!(config.metrics, Some("127.0.0.1:9464".parse().unwrap()));
    let [SourceRule::Engine(engine), SourceRule::Files(files)] = config.sources.as_slice() else {
        panic!("{:?}", config.sources)
    };
    assert_eq!(engine.name, "source[1]");
    assert_eq!(engine.include.texts(), ["shop-*", "*/web:*"]);
    assert_eq!(engine.labels.len(), 2);
    let process = &engine.lines.process;
    let multiline = process.multiline.as_ref().unwrap();
    assert_eq!((multiline.lines_max, multiline.bytes_max), (50, 64 << 10));
    assert_eq!(multiline.age, 500_000_000);
    assert_eq!(process.redact.names(), ["email", "session"]);
    assert_eq!(process.rate.unwrap().to_string(), "1000/s,burst=5000");
    assert_eq!(files.start, FileStart::End);
    assert_eq!(files.lines.process.line_bytes_max, 64 << 10);
    assert_eq!(files.lines.sinks, None);
    let sink = config.sinks.first().unwrap();
    assert_eq!(sink.name, "archive");
    let options: Vec<_> = sink.options.iter().map(|(k, v)| format!("{k}={v}")).collect();
    // Only secrets come from the environment; there is no other templating.
    let wanted = [
        "backlog_max=1GiB",
        "batch=8MB",
        "gzip=false",
        "header=a,b",
        "level=3",
        "prefix=${TOKEN}",
        "token=secret",
    ];
    assert_eq!(options, wanted);
}

#[test]
fn an_empty_file_sets_nothing() {
    let config = read_text("# nothing\n");
    assert!(config.sources.is_empty() && config.sinks.is_empty() && config.host.is_none());
}

#[test]
fn every_fault_has_its_place_its_key_and_what_is_allowed() {
    for (text, said) in [
        (
            "stat = \"/x\"",
            "f.toml:1:1: stat: there is no such key here; there are host, state, drain, wal, engine, metrics, redact, sink, source",
        ),
        ("state = 1", "f.toml:1:9: state: it is a whole number; give a text"),
        ("state = \"\"", "f.toml:1:9: state: it is empty"),
        (
            "drain = \"soon\"",
            "f.toml:1:9: drain: `soon` is no duration: write a whole number and ms, s, m, h or d",
        ),
        ("wal = 1", "f.toml:1:7: wal: it is a whole number; give a table"),
        (
            "[wal]\ncodec = \"gzip\"",
            "f.toml:2:9: wal.codec: \"gzip\" is none of lz4, zstd and none",
        ),
        (
            "[wal]\nbytes_max = \"2 potatoes\"",
            "f.toml:2:13: wal.bytes_max: `2 potatoes` is no size: write a whole number and B, kB, MB, GB, TB, KiB, MiB, GiB or TiB",
        ),
        ("[wal]\noff = 1", "f.toml:2:7: wal.off: it is a whole number; give true or false"),
        (
            "[wal]\nreserve = -1",
            "f.toml:2:11: wal.reserve: it is out of range: give 0 to 9223372036854775807",
        ),
        (
            "[engine]\nsocket = \"/x\"",
            "f.toml:2:1: engine.socket: there is no such key here; there are host, files, pin, api_only",
        ),
        (
            "[metrics]\nlisten = \"9464\"",
            "f.toml:2:10: metrics.listen: \"9464\" is no address: give for example 127.0.0.1:9464",
        ),
        (
            "[redact]\nemail = 'x'",
            "f.toml:2:9: redact.email: there is a preset of that name: choose another one",
        ),
        ("source = 1", "f.toml:1:10: source: it is a whole number; give [[source]]"),
        (
            "[[source]]\nparse = \"json\"",
            "f.toml:1:1: source[1].type: it is missing: give \"engine\" or \"files\"",
        ),
        (
            "[[source]]\ntype = \"journal\"",
            "f.toml:2:8: source[1].type: \"journal\" is none of engine and files",
        ),
        (
            "[[source]]\ntype = \"files\"",
            "f.toml:1:1: source[1].paths: it is missing: give for example [\"/logs/*.log\"]",
        ),
        (
            "[[source]]\ntype = \"files\"\npaths = [\"/a\", \"b\"]",
            "f.toml:3:16: source[1].paths[2]: \"b\" cannot be used: it is no absolute path",
        ),
        (
            "[[source]]\ntype = \"files\"\npaths = [\"/a\"]\ninclude = [\"x\"]",
            "f.toml:4:1: source[1].include: there is no such key here; there are parse, level, multiline, rate, redact, line_max, fields, sinks, type, paths, exclude, start, rotate",
        ),
        (
            "[[source]]\ntype = \"engine\"\n[source.rotate]\nsize = 1",
            "f.toml:3:9: source[1].rotate: there is no such key here; there are parse, level, multiline, rate, redact, line_max, fields, sinks, type, include, exclude, labels, label_fields",
        ),
        (
            "[[source]]\ntype = \"files\"\npaths = [\"/a\"]\n[source.rotate]\nsize = 1",
            "f.toml:5:8: source[1].rotate.size: it is too small: give at least 65536 bytes",
        ),
        (
            "[[source]]\ntype = \"engine\"\nsinks = [\"x\"]",
            "f.toml:3:10: source[1].sinks[1]: there is no sink x; there are none",
        ),
        (
            "[[source]]\ntype = \"engine\"\nsinks = []",
            "f.toml:3:9: source[1].sinks: it is empty: name sinks, or leave it out for all of them",
        ),
        (
            "[[source]]\ntype = \"engine\"\nrate = \"1000\"",
            "f.toml:3:8: source[1].rate: \"1000\" is no rate: give for example 1000/s, 500/m, or 1000/s,burst=5000,sample=100",
        ),
        (
            "[[source]]\ntype = \"engine\"\nredact = [\"emails\"]",
            "f.toml:3:11: source[1].redact[1]: \"emails\" is none of email, card, bearer, aws-key, jwt, private-key, url-password, password, ipv4, ipv6 and mac",
        ),
        (
            "[[source]]\ntype = \"engine\"\nfields = { seq = \"1\" }",
            "f.toml:3:18: source[1].fields.seq: every record has a field seq already: choose another name",
        ),
        (
            "[[source]]\ntype = \"engine\"\nmultiline = { preset = \"perl\" }",
            "f.toml:3:13: source[1].multiline: \"perl\" is none of java, python, go, ruby and dotnet",
        ),
        (
            "[[source]]\ntype = \"engine\"\nmultiline = { age = \"1s\" }",
            "f.toml:3:13: source[1].multiline: give preset, or start, or continue, or the last two",
        ),
        (
            "[[source]]\ntype = \"engine\"\nline_max = \"1GB\"",
            "f.toml:3:12: source[1].line_max: it is out of range: give 1 to 2097152 bytes",
        ),
        (
            "[[sink]]\nurl = \"stdout:\"",
            "f.toml:1:1: sink[1].name: it is missing: cursors are kept by it",
        ),
        (
            "[[sink]]\nname = \"a/b\"\nurl = \"stdout:\"",
            "f.toml:2:8: sink[1].name: \"a/b\" is no name: give up to 64 letters, digits, `_`, `-` and `.`, beginning with a letter or digit",
        ),
        (
            "[[sink]]\nname = \"a\"\nurl = \"stdout:\"\n[[sink]]\nname = \"a\"\nurl = \"stdout:\"",
            "f.toml:5:8: sink[2].name: another sink is named a too",
        ),
        (
            "[[sink]]\nname = \"a\"",
            "f.toml:1:1: sink[1].url: it is missing: give for example \"stdout:\"",
        ),
        (
            "[[sink]]\nname = \"a\"\nurl = \"stdout:\"\ntoken_file = \"${NOWHERE}\"",
            "f.toml:4:14: sink[1].token_file: the environment has no variable NOWHERE",
        ),
        (
            "[[sink]]\nname = \"a\"\nurl = \"stdout:\"\nheaders = { a = 1 }",
            "f.toml:4:11: sink[1].headers: it is a table; give a text, a number, true, false, or a list of texts",
        ),
    ] {
        assert_eq!(faults(text), said, "{text}");
    }
}

#[test]
fn patterns_that_are_none_are_told_in_one_line() {
    for text in [
        "[[source]]\ntype = \"engine\"\nmultiline = \"start:(\"",
        "[[source]]\ntype = \"engine\"\nmultiline = { start = \"(\" }",
        "[redact]\nx = \"(\"",
        "[[source]]\ntype = \"engine\"\ninclude = [\"[\"]",
    ] {
        let said = faults(text);
        assert!(said.starts_with("f.toml:") && !said.contains('\n'), "{said}");
    }
}

#[test]
fn several_faults_are_told_together_in_the_order_of_the_file() {
    let said = faults("stat = 1\nhost = 2\n[wal]\ncodec = 3\n[[sink]]\nname = \"ä\"\nurl = 4\n");
    let places: Vec<&str> = said.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["f.toml:1:1", "f.toml:2:8", "f.toml:4:9", "f.toml:6:8", "f.toml:7:7"]);
}

#[test]
fn what_is_no_toml_has_its_place_too() {
    assert!(faults("a = ").starts_with("f.toml:1:5: "), "{}", faults("a = "));
    let said = faults("host = \"ä\"\nhost = \"b\"\n");
    assert!(said.starts_with("f.toml:2:1: ") && said.contains("duplicate"), "{said}");
}
