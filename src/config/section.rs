//! A reader over JSON that goes on after a problem, and knows where it stands.
//!
//! A [`Section`] is one object. Asking it for a [`Field`] makes the name known; what nobody asked for is
//! reported at the end. A field's readers give `None` when the field is absent, and also, after recording
//! an error, when it is not what was expected; the caller goes on with a default in both cases, and the
//! error refuses the config in the end. As in Go, `null` and `""` count as absent.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Map, Value};

use super::duration::GoDuration;
use super::problem::{Findings, Severity};

/// One object of the text.
pub(super) struct Section<'a> {
    path: String,
    /// `None` for an absent one, which has every field absent.
    fields: Option<&'a Map<String, Value>>,
    known: Vec<&'static str>,
    findings: &'a Findings,
}

impl<'a> Section<'a> {
    pub(super) fn new(path: String, fields: Option<&'a Map<String, Value>>, findings: &'a Findings) -> Self {
        Self { path, fields, known: Vec::new(), findings }
    }

    pub(super) fn findings(&self) -> &'a Findings {
        self.findings
    }

    /// Whether it is in the text at all.
    pub(super) fn is_there(&self) -> bool {
        self.fields.is_some()
    }

    /// The field of that name, there or not.
    pub(super) fn field(&mut self, name: &'static str) -> Field<'a> {
        self.known.push(name);
        let path = join(&self.path, name);
        #[cfg(test)]
        self.findings.known.borrow_mut().insert(path.clone());
        let value = self.fields.and_then(|fields| fields.get(name));
        Field { path, value: value.unwrap_or(&Value::Null), is_element: false, findings: self.findings }
    }

    pub(super) fn error(&self, name: &str, message: impl Into<String>) {
        self.findings.error(join(&self.path, name), message);
    }

    pub(super) fn warn(&self, name: &str, message: impl Into<String>) {
        self.findings.warn(join(&self.path, name), message);
    }

    /// Reports the fields of `table` that are set to anything but their type's zero: sing-box knows them,
    /// this client does not have them. The table gives for each how grave that is, and why.
    pub(super) fn unsupported(&mut self, table: &[(&'static str, Severity, &str)]) {
        for (name, severity, why) in table {
            let field = self.field(name);
            if is_set(field.value) {
                let prefix = match severity {
                    Severity::Error => "not supported",
                    Severity::Warning => "has no effect",
                };
                self.findings.push(*severity, field.path, format!("{prefix}: {why}"));
            }
        }
    }

    /// Warns of each field that nobody asked for.
    pub(super) fn finish(self) {
        for name in self.unread() {
            // The search is long, and for nobody once no more warnings are listed.
            let known = if self.findings.is_full() { None } else { closest(name, &self.known) };
            let message = match known {
                Some(known) => format!("unknown field, ignored (did you mean {known}?)"),
                None => "unknown field, ignored".to_owned(),
            };
            self.findings.warn(join(&self.path, name), message);
        }
    }

    /// Warns once of all the fields that nobody asked for; `message` stands before their names.
    pub(super) fn finish_in_one(self, message: &str) {
        if self.unread().next().is_some() {
            let names = enumerate(self.unread().map(printable));
            self.findings.warn(self.path.as_str(), format!("{message}: {names}"));
        }
    }

    fn unread(&self) -> impl Iterator<Item = &'a str> {
        let names = self.fields.into_iter().flat_map(Map::keys).map(String::as_str);
        names.filter(|name| !self.known.contains(name))
    }
}

/// One value of the text, or the place where it would stand.
pub(super) struct Field<'a> {
    path: String,
    value: &'a Value,
    /// Whether it stands in an array, where nothing counts as absent: an empty pin must not vanish.
    is_element: bool,
    findings: &'a Findings,
}

impl<'a> Field<'a> {
    pub(super) fn is_given(&self) -> bool {
        self.is_element || !(self.value.is_null() || self.is_word(""))
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn error(&self, message: impl Into<String>) {
        self.findings.error(self.path.as_str(), message);
    }

    pub(super) fn warn(&self, message: impl Into<String>) {
        self.findings.warn(self.path.as_str(), message);
    }

    /// Whatever `read` makes of the value; `None` from it is an error.
    fn read<T>(&self, expected: &str, read: impl FnOnce(&'a Value) -> Option<T>) -> Option<T> {
        if !self.is_given() {
            return None;
        }
        let value = read(self.value);
        if value.is_none() {
            // Its kind, never itself: a password may stand in a wrong place.
            self.error(format!("expected {expected}, found {}", kind(self.value)));
        }
        value
    }

    pub(super) fn text(&self) -> Option<&'a str> {
        self.read("a string", Value::as_str)
    }

    pub(super) fn flag(&self) -> Option<bool> {
        self.read("true or false", Value::as_bool)
    }

    pub(super) fn integer(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let expected = format!("an integer from {} to {}", range.start(), range.end());
        self.read(&expected, |value| value.as_u64().filter(|number| range.contains(number)))
    }

    /// A string that `parse` understands.
    pub(super) fn parsed<T>(&self, expected: &str, parse: impl FnOnce(&'a str) -> Option<T>) -> Option<T> {
        self.read(expected, |value| parse(value.as_str()?))
    }

    pub(super) fn is_word(&self, word: &str) -> bool {
        self.value.as_str() == Some(word)
    }

    /// One of a few words.
    pub(super) fn choice<T: Clone>(&self, choices: &[(&str, T)]) -> Option<T> {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        self.parsed(&format!("one of {}", names.join(", ")), |text| {
            choices.iter().find(|(name, _)| *name == text).map(|(_, choice)| choice.clone())
        })
    }

    /// A duration as Go writes it; the number 0 may stand without quotes.
    pub(super) fn duration(&self) -> Option<Duration> {
        if !self.is_given() {
            return None;
        }
        let text = match self.value {
            Value::String(text) => text.as_str(),
            Value::Number(number) if number.as_u64() == Some(0) => "0",
            other => {
                self.error(format!("expected a duration such as \"30s\" in quotes, found {}", kind(other)));
                return None;
            }
        };
        match text.parse() {
            Ok(GoDuration(duration)) => Some(duration),
            Err(error) => {
                self.error(error.to_string());
                None
            }
        }
    }

    /// A size: a number of bytes, or a string such as `24MiB`.
    pub(super) fn bytes(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let expected = format!("a size such as \"24MiB\", from {} to {} bytes", range.start(), range.end());
        self.read(&expected, |value| {
            let bytes = value.as_u64().or_else(|| parse_size(value.as_str()?));
            bytes.filter(|bytes| range.contains(bytes))
        })
    }

    /// The elements of an array; one that is no array stands for an array of one, as in sing-box.
    pub(super) fn list(&self) -> Vec<Field<'a>> {
        let element = |path, value| Field { path, value, is_element: true, findings: self.findings };
        match self.value {
            Value::Array(values) => {
                let values = values.iter().enumerate();
                values.map(|(index, value)| element(format!("{}[{index}]", self.path), value)).collect()
            }
            value if self.is_given() => vec![element(self.path.clone(), value)],
            _ => Vec::new(),
        }
    }

    /// The object; without any field when it is absent or something else.
    pub(super) fn section(&self) -> Section<'a> {
        Section::new(self.path.clone(), self.read("an object", Value::as_object), self.findings)
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let unit: u64 = match unit {
        "B" => 1,
        "KB" => 1000,
        "MB" => 1000 * 1000,
        "GB" => 1000 * 1000 * 1000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Whether a value asks for anything: not a zero value of Go, and not an object that says it is off.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => !values.is_empty(),
        Value::Object(fields) => fields.get("enabled").map_or(!fields.is_empty(), is_set),
    }
}

/// The path of a field: `a.b`, or `a["b c"]` for a name that is no word.
fn join(path: &str, name: &str) -> String {
    let is_word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-$".contains(&byte));
    match (path, is_word && !name.is_empty() && name.len() <= MAX_NAME) {
        ("", true) => name.to_owned(),
        (path, true) => format!("{path}.{name}"),
        (path, false) => format!("{path}[{}]", printable(name)),
    }
}

/// The longest field name that is printed whole and looked up; sing-box's longest has 43 bytes.
const MAX_NAME: usize = 48;

/// A field name out of the text, made fit for a log line.
fn printable(name: &str) -> String {
    let shown: String = name.chars().take(MAX_NAME).collect();
    format!("{shown:?}{}", if shown.len() < name.len() { "…" } else { "" })
}

/// The first of many names in a line, and how many more there are.
pub(super) fn enumerate(mut names: impl Iterator<Item = String>) -> String {
    let shown: Vec<_> = names.by_ref().take(16).collect();
    let more = match names.count() {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    shown.join(", ") + &more
}

/// The known name that is at most two typing errors away.
fn closest(name: &str, known: &[&'static str]) -> Option<&'static str> {
    let name = name.to_ascii_lowercase().replace('-', "_");
    let near = known.iter().map(|known| (distance(&name, known), *known)).min()?;
    Some(near)
        .filter(|(distance, known)| *distance <= 2 && *distance < known.len() / 2)
        .map(|(_, known)| known)
}

/// The Levenshtein distance, in bytes.
fn distance(a: &str, b: &str) -> usize {
    if a.len() > MAX_NAME {
        return a.len();
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
