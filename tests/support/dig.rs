//! What apps ask, through `dig`, and what they must be told.

use super::netns::{Netns, output};
use super::resolver::{LARGE, LARGE_LENGTH};

/// An answer, as `dig` shows it.
#[derive(Debug)]
pub struct Answer {
    /// `NOERROR`, `NXDOMAIN`, `SERVFAIL` and so on.
    pub status: String,
    /// Whether it says that it is not whole.
    pub truncated: bool,
    pub records: Vec<Record>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub name: String,
    pub ttl: u32,
    pub kind: String,
    pub data: String,
}

impl Answer {
    /// What the records say, sorted.
    pub fn data(&self) -> Vec<&str> {
        let mut data: Vec<_> = self.records.iter().map(|record| record.data.as_str()).collect();
        data.sort_unstable();
        data
    }

    /// The data of the one record.
    pub fn only(&self) -> &str {
        let [record] = &self.records[..] else { panic!("not one record: {self:?}") };
        &record.data
    }
}

/// Asks the resolver at `address` once, e.g. `dig(netns, "10.70.0.2", &["+tcp", "host.test", "AAAA"])`.
/// Panics when nothing answers within 10 s.
pub fn dig(netns: &Netns, address: &str, arguments: &[&str]) -> Answer {
    let mut dig = netns.command("dig");
    dig.args(["+noall", "+comments", "+answer", "+tries=1", "+time=10", &format!("@{address}")]);
    let printed = output(dig.args(arguments));
    let after = |label: &str, end: &str| {
        let (_, rest) = printed.rsplit_once(label)?;
        Some(rest.split_once(end)?.0.to_owned())
    };
    let status = after(" status: ", ",").unwrap_or_else(|| panic!("no answer: {printed}"));
    let flags = after(";; flags:", ";").unwrap_or_default();
    let record = |line: &str| {
        let mut fields = line.split_whitespace();
        let (name, ttl, _class, kind) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let data = fields.collect::<Vec<_>>().join(" ");
        Some(Record { name: name.to_owned(), ttl: ttl.parse().ok()?, kind: kind.to_owned(), data })
    };
    let lines = printed.lines().filter(|line| !line.starts_with(';') && !line.is_empty());
    let records = lines.map(|line| record(line).unwrap_or_else(|| panic!("not a record: {line}"))).collect();
    Answer { status, truncated: flags.split_whitespace().any(|flag| flag == "tc"), records }
}

/// Questions of the kinds that apps ask, of which `addresses` only when they are the resolver's to answer.
///
/// Panics unless all answers are the [resolver](super::resolver)'s, over both transports.
pub fn check_answers(netns: &Netns, address: &str, addresses: bool) {
    let about_addresses: &[(&[&str], &str, &[&str])] = &[
        (&["host.test", "A"], "NOERROR", &["203.0.113.9"]),
        (&["host.test", "AAAA"], "NOERROR", &["2001:db8::9"]),
        (&["v4only.test", "AAAA"], "NOERROR", &[]),
        (&["missing.test", "A"], "NXDOMAIN", &[]),
        (&["missing.test", "AAAA"], "NXDOMAIN", &[]),
        (&["host.test", "HTTPS"], "NOERROR", &[r#"1 . alpn="h2,h3" ipv4hint=203.0.113.9"#]),
    ];
    let others: &[(&[&str], &str, &[&str])] = &[
        (&["host.test", "TXT"], "NOERROR", &[r#""two words""#]),
        (&["missing.test", "TXT"], "NXDOMAIN", &[]),
        (&["broken.test", "TXT"], "SERVFAIL", &[]),
        (&["-x", "203.0.113.9"], "NOERROR", &["host.test."]),
    ];
    for transport in ["+notcp", "+tcp"] {
        for (question, status, data) in about_addresses.iter().filter(|_| addresses).chain(others) {
            let answer = dig(netns, address, &[&[transport], *question].concat());
            assert_eq!((answer.status.as_str(), answer.data()), (*status, data.to_vec()), "{question:?}");
        }
        // Over UDP it comes cut, and dig asks again over TCP.
        check_large(&dig(netns, address, &[transport, "large.test", "TXT"]));
    }
    let cut = dig(netns, address, &["+notcp", "+ignore", "large.test", "TXT"]);
    assert!(cut.truncated && cut.status == "NOERROR", "{cut:?}");
}

fn check_large(answer: &Answer) {
    let expected: Vec<_> = (0..LARGE).map(|index| format!(r#""{index:0LARGE_LENGTH$}""#)).collect();
    assert_eq!(
        (answer.status.as_str(), answer.data()),
        ("NOERROR", expected.iter().map(String::as_str).collect())
    );
}

/// What a program gets from the system's own resolver, sorted and each once.
pub fn getent(netns: &Netns, name: &str) -> Vec<String> {
    let printed = output(netns.command("getent").args(["ahosts", name]));
    let mut addresses: Vec<_> =
        printed.lines().filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}
