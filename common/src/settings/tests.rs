use super::*;

#[derive(Debug, Default, PartialEq)]
struct Known {
    name: Option<String>,
    number: Option<u64>,
    wait: Option<Duration>,
    room: Option<u64>,
    is_on: Option<bool>,
    list: Vec<String>,
    inner: Vec<(Place, Option<String>)>,
}

fn known(table: &Table<'_>) -> Known {
    let known = Known {
        name: table.get("name").and_then(|item| item.string()),
        number: table.get("number").and_then(|item| item.integer(1..=9)),
        wait: table.get("wait").and_then(|item| item.duration()),
        room: table.get("room").and_then(|item| item.size()),
        is_on: table.get("on").and_then(|item| item.boolean()),
        list: table.get("list").map(|item| item.strings()).unwrap_or_default(),
        inner: table
            .get("inner")
            .map(|item| item.tables())
            .unwrap_or_default()
            .iter()
            .map(|table| {
                let value = table.get("value").and_then(|item| item.scalar());
                if value.is_none() {
                    table.missing("value", "it is missing");
                }
                table.end();
                (table.place(), value)
            })
            .collect(),
    };
    table.end();
    known
}

fn faults(text: &str) -> String {
    let faults = parse(text, known).unwrap_err();
    FileFaults { path: PathBuf::from("f"), faults }.to_string()
}

#[test]
fn values_are_read_and_places_are_known() {
    let text = "name = 'n'\nnumber = 0x7\nwait = '2m'\nroom = '1KiB'\non = true\nlist = ['a', 'b']\n\
        [[inner]]\nvalue = 1.5\n[[inner]]\nvalue = false\n";
    let read = parse(text, known).unwrap();
    assert_eq!(read.name.as_deref(), Some("n"));
    assert_eq!((read.number, read.room, read.is_on), (Some(7), Some(1024), Some(true)));
    assert_eq!(read.wait, Some(Duration::from_secs(120)));
    assert_eq!(read.list, ["a", "b"]);
    let inner: Vec<_> =
        read.inner.iter().map(|(place, value)| (place.line, value.as_deref().unwrap())).collect();
    assert_eq!(inner, [(7, "1.5"), (9, "false")]);
    assert_eq!(parse("list = 'alone'", known).unwrap().list, ["alone"]);
    assert_eq!(parse("# nothing", known).unwrap(), Known::default());
}

#[test]
fn every_fault_is_told_at_once_with_its_place() {
    let text =
        "name = ''\nnumber = 10\nwait = 5\nroom = 'much'\nöther = 1\non = 1979-05-27\ninner = 3\n";
    assert_eq!(
        faults(text.replace('ö', "o").as_str()),
        "f:1:8: name: it is empty\n\
         f:2:10: number: it is out of range: give 1 to 9\n\
         f:3:8: wait: it is a whole number; give a time such as \"500ms\" or \"5m\"\n\
         f:4:8: room: `much` is no size: write a whole number and B, kB, MB, GB, TB, KiB, MiB, GiB or TiB\n\
         f:5:1: other: there is no such key here; there are name, number, wait, room, on, list, inner\n\
         f:6:6: on: it is a time; give true or false\n\
         f:7:9: inner: it is a whole number; give [[inner]]"
    );
    assert_eq!(faults("[[inner]]\n"), "f:1:1: inner[1].value: it is missing");
    assert_eq!(faults("[[inner]]\nvalue = 1\nx = 2\n"), {
        "f:3:1: inner[1].x: there is no such key here; there are value"
    });
}

#[test]
fn what_is_no_toml_is_told_alone() {
    let told = faults("name = \nnumber = 99\n");
    assert!(told.starts_with("f:1:8: ") && !told.contains("number"), "{told}");
    let many: String = (0..200).map(|number| format!("k{number} = 1\n")).collect();
    assert_eq!(parse(&many, known).unwrap_err().len(), FAULTS_MAX);
}

#[test]
fn a_file_that_cannot_be_read_is_a_fault_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f.toml");
    let told = |path: &Path| read(path, |text| parse(text, known)).unwrap_err().to_string();
    assert!(
        told(&path)
            .ends_with("the configuration cannot be read: No such file or directory (os error 2)")
    );
    std::fs::write(&path, b"name = '\xff'").unwrap();
    assert!(told(&path).ends_with("f.toml: it is no UTF-8 text"));
    std::fs::write(&path, vec![b'#'; 1 + FILE_BYTES_MAX as usize]).unwrap();
    assert!(told(&path).ends_with("it is larger than 1048576 bytes"));
    std::fs::write(&path, "name = 'n'").unwrap();
    assert_eq!(read(&path, |text| parse(text, known)).unwrap().name.as_deref(), Some("n"));
}

#[test]
fn what_is_allowed_is_a_sentence() {
    assert_eq!(one_of("x", &["a", "b", "c"]), "\"x\" is none of a, b and c");
    assert_eq!(one_of("x", &["a"]), "\"x\" is none of a");
}

#[test]
fn a_place_counts_characters() {
    let text = "a\nää b";
    assert_eq!(place(text, text.find('b').unwrap()), Place { line: 2, column: 4 });
    assert_eq!(place(text, 1_000), Place { line: 2, column: 5 });
}
