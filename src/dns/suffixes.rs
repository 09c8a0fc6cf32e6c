//! Names that end as one of a list does.

use std::collections::HashSet;

/// Suffixes of names, label by label: `lan` is one of `lan` and `a.lan`, not of `plan`.
#[derive(Clone, Debug, Default)]
pub(super) struct Suffixes(HashSet<Box<str>>);

impl Suffixes {
    /// From text: `lan`, `LAN.` and `.lan` are the same. An empty one is none.
    pub(super) fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let bare = |text: &'a str| text.trim_matches('.').to_ascii_lowercase().into_boxed_str();
        Self(texts.into_iter().map(bare).filter(|text| !text.is_empty()).collect())
    }

    /// Whether one of them is a suffix of the name, which is lower-case and has no dot at its end.
    pub(super) fn match_name(&self, name: &str) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let after_dots = name.match_indices('.').map(|(at, _)| &name[at + 1..]);
        std::iter::once(name).chain(after_dots).any(|suffix| self.0.contains(suffix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_match_whole_labels() {
        for text in ["lan", ".lan", "LAN."] {
            let suffixes = Suffixes::new([text, "corp.example"]);
            for name in ["lan", "a.lan", "b.a.lan", "corp.example", "www.corp.example"] {
                assert!(suffixes.match_name(name), "{text:?} {name}");
            }
            for name in ["plan", "lan.com", "example", "acorp.example", "la"] {
                assert!(!suffixes.match_name(name), "{text:?} {name}");
            }
        }
    }

    #[test]
    fn an_empty_suffix_is_none() {
        for text in ["", ".", "*.", "*"] {
            assert!(!Suffixes::new([text]).match_name("example.com"), "{text:?}");
        }
        assert!(!Suffixes::default().match_name("example.com"));
    }
}
