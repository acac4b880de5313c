//! What operators, labels and addresses say in short texts: any of them is understood or refused in a sentence, never a
//! panic.
#![no_main]

use std::collections::BTreeMap;
use std::ffi::OsStr;

use libfuzzer_sys::fuzz_target;
use logship::files::patterns::{Patterns, bases};
use logship::process::filter::LevelFilter;
use logship::process::multiline::Multiline;
use logship::process::rate::Rate;
use logship::process::redact::Rule;
use logship::proxy::Listen;
use logship::sink::settings::SinkSettings;
use logship::template::Template;
use logship::{labels, quantity, rule, time};

/// Names of labels that are read, without those that `page` has.
const LABELS: [&str; 8] = ["sinks", "parse", "multiline", "redact", "level", "rate", "fields", "rotate"];

fuzz_target!(|input: (u8, &str)| {
    let (kind, text) = input;
    match kind % 12 {
        0 => drop(Template::parse(text)),
        1 => drop((quantity::size(text), quantity::duration(text))),
        2 => {
            if let Ok(multiline) = Multiline::parse(text) {
                let _joins = multiline.joins(text.as_bytes());
            }
        }
        3 => {
            if let Ok(filter) = LevelFilter::parse(text) {
                let _passes = filter.passes(text.as_bytes());
            }
        }
        4 => drop(Rate::parse(text)),
        5 => drop(Rule::new("secret", text)),
        6 => drop(rule::glob(text)),
        7 => drop(Patterns::new(&[text.to_owned()], &[])),
        8 => {
            for base in bases(OsStr::new(text)) {
                assert!(base.len() < text.len(), "a rotation makes a name longer");
            }
        }
        9 => {
            let _at = time::parse(text.as_bytes());
            drop(Listen::parse(text));
        }
        10 => drop(SinkSettings::parse_in("out", text, &BTreeMap::new(), &|_| None)),
        _ => {
            let labels = LABELS.map(|name| (format!("{}{name}", labels::PREFIX), text.to_owned()));
            drop(labels::read(&labels.into()));
        }
    }
});
