//! Secrets in lines: found by pattern, and replaced by `[redacted:NAME]`.

use std::sync::Arc;

use regex::bytes::{Captures, Regex, RegexSet, RegexSetBuilder};

use super::multiline::{PATTERN_BYTES_MAX, PatternError, pattern};

#[cfg(test)]
mod tests;

/// Rules of one source, at the most.
pub const RULES_MAX: usize = 64;

/// Digits of a card number (ISO/IEC 7812).
const CARD_DIGITS: std::ops::RangeInclusive<usize> = 13..=19;

/// The presets: name and pattern. A group named `secret` is what is replaced, otherwise all that matches.
const PRESETS: [(&str, &str); 5] = [
    ("email", r"(?-u)[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}"),
    (CARD, r"(?-u)\b[0-9](?:[ -]?[0-9]){12,}\b"),
    ("bearer", r"(?i-u)\bbearer[ \t]+(?P<secret>[A-Za-z0-9._~+/=-]{8,})"),
    ("aws-key", r"(?-u)\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b"),
    (
        "aws-key",
        r#"(?i-u)\baws_?secret_?access_?key["']?[ \t]*[=:][ \t]*["']?(?P<secret>[A-Za-z0-9/+]{40})"#,
    ),
];

/// The preset whose matches must have the check digit of a card number too.
const CARD: &str = "card";

/// What replaces a part of a line.
const GROUP: &str = "secret";

/// One kind of secret.
#[derive(Debug, Clone)]
pub struct Rule {
    name: Arc<str>,
    pattern: Regex,
    replacement: Arc<[u8]>,
    is_card: bool,
}

impl Rule {
    /// Named, so that the hole tells what was there. A group named `secret` in the pattern is what is replaced,
    /// otherwise all that matches.
    pub fn new(name: &str, text: &str) -> Result<Self, PatternError> {
        Ok(Self {
            name: name.into(),
            pattern: pattern(text)?,
            replacement: format!("[redacted:{name}]").into_bytes().into(),
            is_card: false,
        })
    }

    /// The rules of a preset: `email`, `card`, `bearer`, `aws-key`. Empty when there is none of that name.
    pub fn preset(name: &str) -> Result<Vec<Self>, PatternError> {
        let chosen = PRESETS.iter().filter(|(preset, _)| *preset == name);
        chosen
            .map(|(name, text)| Ok(Self { is_card: *name == CARD, ..Self::new(name, text)? }))
            .collect()
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Names of the presets.
#[must_use]
pub fn presets() -> [&'static str; 4] {
    ["email", CARD, "bearer", "aws-key"]
}

/// Every kind of secret of a source. Cloning is cheap enough: patterns are shared.
#[derive(Debug, Clone, Default)]
pub struct Redaction {
    rules: Vec<Rule>,
    /// Finds in one pass whether there is anything to do.
    any: Option<RegexSet>,
}

impl Redaction {
    /// From rules, which are applied in order.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Self {
        let texts: Vec<&str> = rules.iter().map(|rule| rule.pattern.as_str()).collect();
        let any = RegexSetBuilder::new(&texts)
            .size_limit(PATTERN_BYTES_MAX * RULES_MAX)
            .build()
            // Together they may be too large although each is not: then each is asked.
            .ok()
            .filter(|set| !set.is_empty());
        Self { rules, any }
    }

    /// Nothing is secret.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Every rule.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Names of the rules, each once.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.rules.iter().map(Rule::name).collect();
        names.dedup();
        names
    }

    /// Puts `line` without its secrets into `out`, and says whether it differs; `out` is as good as empty if not.
    pub fn apply(&self, line: &[u8], out: &mut Vec<u8>) -> bool {
        if self.rules.is_empty() || self.any.as_ref().is_some_and(|any| !any.is_match(line)) {
            return false;
        }
        let mut differs = false;
        for rule in &self.rules {
            let text: &[u8] = if differs { out } else { line };
            if let Some(replaced) = rule.replaced(text) {
                *out = replaced;
                differs = true;
            }
        }
        differs
    }
}

impl Rule {
    /// The text with every match replaced; `None` when there is none.
    fn replaced(&self, text: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let mut done = 0;
        for captures in self.pattern.captures_iter(text) {
            for span in self.spans(text, &captures) {
                out.extend_from_slice(text.get(done..span.start)?);
                out.extend_from_slice(&self.replacement);
                done = span.end;
            }
        }
        if done == 0 {
            return None;
        }
        out.extend_from_slice(text.get(done..)?);
        Some(out)
    }

    /// What of a match is secret, in order.
    fn spans(&self, text: &[u8], captures: &Captures<'_>) -> Vec<std::ops::Range<usize>> {
        let Some(found) = captures.name(GROUP).or_else(|| captures.get(0)) else {
            return Vec::new();
        };
        if !self.is_card {
            // An empty match has nothing to hide, and would be found everywhere.
            return if found.is_empty() { Vec::new() } else { vec![found.range()] };
        }
        card_spans(text.get(found.range()).unwrap_or_default())
            .into_iter()
            .map(|span| found.start() + span.start..found.start() + span.end)
            .collect()
    }
}

/// Card numbers among digits with single separators: runs of whole digit groups with a sound check digit, the
/// longest first from the left. `12 4111 1111 1111 1111` is a number and a card.
fn card_spans(text: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut groups: Vec<std::ops::Range<usize>> = Vec::new();
    for (at, byte) in text.iter().enumerate() {
        match groups.last_mut() {
            Some(group) if byte.is_ascii_digit() && group.end == at => group.end = at + 1,
            _ if byte.is_ascii_digit() => groups.push(at..at + 1),
            _ => {}
        }
    }
    let mut spans = Vec::new();
    let mut from = 0;
    while let Some(first) = groups.get(from) {
        // A card has no more groups than digits.
        let candidates = groups.iter().enumerate().skip(from).take(*CARD_DIGITS.end());
        let card = candidates.rev().find(|(_, last)| {
            text.get(first.start..last.end).is_some_and(|candidate| {
                let digits: Vec<u8> =
                    candidate.iter().copied().filter(u8::is_ascii_digit).collect();
                CARD_DIGITS.contains(&digits.len()) && is_luhn(&digits)
            })
        });
        if let Some((at, last)) = card {
            spans.push(first.start..last.end);
            from = at + 1;
        } else {
            from += 1;
        }
    }
    spans
}

/// The check digit of ISO/IEC 7812-1, annex B.
fn is_luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| {
            let digit = u32::from(digit - b'0');
            match at % 2 {
                0 => digit,
                _ if digit > 4 => digit * 2 - 9,
                _ => digit * 2,
            }
        })
        .sum();
    sum.is_multiple_of(10)
}
