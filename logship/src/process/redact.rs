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
const PRESETS: [(&str, &str); 12] = [
    ("email", r"(?-u)[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}"),
    (CARD, r"(?-u)\b[0-9](?:[ -]?[0-9]){12,}\b"),
    ("bearer", r"(?i-u)\bbearer[ \t]+(?P<secret>[A-Za-z0-9._~+/=-]{8,})"),
    ("aws-key", r"(?-u)\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b"),
    (
        "aws-key",
        r#"(?i-u)\baws_?secret_?access_?key["']?[ \t]*[=:][ \t]*["']?(?P<secret>[A-Za-z0-9/+]{40})"#,
    ),
    // Header and claims are JSON objects in base64url (RFC 7519): both begin with `{"`.
    ("jwt", r"(?-u)\beyJ[A-Za-z0-9_-]{6,}\.eyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]*"),
    // RFC 7468. A key whose end is not in the record is hidden up to the end of the record.
    (
        "private-key",
        r"(?s-u)-----BEGIN [A-Z0-9 ]{0,32}PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]{0,32}PRIVATE KEY(?: BLOCK)?-----|\z)",
    ),
    ("url-password", r"(?i-u)\b[a-z][a-z0-9+.-]*://[^\s/:@?#]*:(?P<secret>[^\s/@?#]+)@"),
    // Quoted as in JSON, in single quotes, as JSON within JSON, a value that is no text; and bare: up to a space or
    // what separates values, or a quote behind which the structure around it goes on.
    (
        "password",
        r#"(?i-u)(?:password|passwd|passphrase|pwd|secret|api_?-?key|token)\\?["']?[ \t]{0,4}[=:][ \t]{0,4}(?:"(?P<secret>(?:[^"\\]|\\.)+)|'(?P<single>(?:[^'\\]|\\.)+)|\\"(?P<inner>(?:[^"\\]|\\\\(?:\\["\\]|[^"\\])|\\[^"\\])+)|(?P<literal>-?[0-9][0-9.e+-]{0,63}|true|false|null)[ \t]*[}\],]|(?P<bare>(?:[^\s,;&"'\\]|\\[^\s"'])(?:[^\s,;&"'\\]|\\[^\s"']|\\?["'][^\s,;&:}\]"'\\])*))"#,
    ),
    (
        "ipv4",
        r"(?-u)\b(?:(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])\.){3}(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])\b",
    ),
    (IPV6, r"(?-u)(?:\b[0-9A-Fa-f]{1,4}|:)(?::[0-9A-Fa-f]{0,4}){2,7}(?:(?:\.[0-9]{1,3}){3})?"),
    ("mac", r"(?-u)\b[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}\b"),
];

/// The preset whose matches must have the check digit of a card number too.
const CARD: &str = "card";

/// The preset whose matches must be addresses to the standard library too.
const IPV6: &str = "ipv6";

/// Groups that are replaced instead of all that matches.
const GROUPS: [&str; 5] = ["secret", "single", "inner", "literal", "bare"];

/// What a match must be beside matching.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    /// Nothing.
    None,
    /// A card number, or some of them among digits.
    Card,
    /// An address of IPv6 with a digit in it: `Bad::Face` is one too.
    Ipv6,
}

/// One kind of secret.
#[derive(Debug, Clone)]
pub struct Rule {
    name: Arc<str>,
    pattern: Regex,
    replacement: Arc<[u8]>,
    check: Check,
}

impl Rule {
    /// Named, so that the hole tells what was there. A group named `secret` in the pattern is what is replaced,
    /// otherwise all that matches.
    pub fn new(name: &str, text: &str) -> Result<Self, PatternError> {
        Ok(Self {
            name: name.into(),
            pattern: pattern(text)?,
            replacement: format!("[redacted:{name}]").into_bytes().into(),
            check: Check::None,
        })
    }

    /// The rules of a preset, such as `email` or `card`. Empty when there is none of that name.
    pub fn preset(name: &str) -> Result<Vec<Self>, PatternError> {
        let chosen = PRESETS.iter().filter(|(preset, _)| *preset == name);
        chosen
            .map(|(name, text)| {
                let check = match *name {
                    CARD => Check::Card,
                    IPV6 => Check::Ipv6,
                    _ => Check::None,
                };
                Ok(Self { check, ..Self::new(name, text)? })
            })
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
pub fn presets() -> [&'static str; 11] {
    [
        "email",
        CARD,
        "bearer",
        "aws-key",
        "jwt",
        "private-key",
        "url-password",
        "password",
        "ipv4",
        IPV6,
        "mac",
    ]
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
        let mut groups = GROUPS.iter().filter_map(|group| captures.name(group));
        let Some(found) = groups.next().or_else(|| captures.get(0)) else {
            return Vec::new();
        };
        match self.check {
            // An empty match has nothing to hide, and would be found everywhere.
            Check::None if found.is_empty() => return Vec::new(),
            Check::None => return vec![found.range()],
            Check::Ipv6 if is_ipv6(found.as_bytes()) => return vec![found.range()],
            Check::Ipv6 => return Vec::new(),
            Check::Card => {}
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

fn is_ipv6(text: &[u8]) -> bool {
    let address = std::str::from_utf8(text).ok().map(str::parse::<std::net::Ipv6Addr>);
    matches!(address, Some(Ok(_))) && text.iter().any(u8::is_ascii_digit)
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
