//! The texts in which both sides tell their version: `key=value` lines.
//!
//! Reading them cannot fail: unknown keys, broken lines and bytes that are not UTF-8 are passed over,
//! a carriage return at a line's end is tolerated, and the last of duplicate keys wins. Nothing in
//! them is worth a session, and the reference reads them the same way.

use std::fmt;

/// What a peer can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerVersion {
    /// No SynAck and no heartbeats: what a peer is that never told, or not so that it can be read.
    #[default]
    V1,
    /// SynAck, heartbeats and ServerSettings; a peer that tells a later version can do these too.
    V2,
}

impl PeerVersion {
    fn parse(text: &str) -> Self {
        match text.parse::<u32>() {
            Ok(2..) => Self::V2,
            Ok(_) | Err(_) => Self::V1,
        }
    }
}

impl fmt::Display for PeerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "1",
            Self::V2 => "2",
        })
    }
}

/// The client's Settings, the first frame of every session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientSettings {
    /// The client's version of the protocol.
    pub version: PeerVersion,
    /// The client's name and version; empty when it gave none. Without line breaks.
    pub client: String,
    /// The md5 of the padding scheme in use, as [`Scheme::md5_hex`](super::padding::Scheme::md5_hex)
    /// gives it; empty when the client gave none.
    pub padding_md5: String,
}

impl ClientSettings {
    /// This client's settings while it uses the scheme with that md5.
    pub fn ours(padding_md5: &str) -> Self {
        Self {
            version: PeerVersion::V2,
            client: concat!("anytls-mobile/", env!("CARGO_PKG_VERSION")).to_owned(),
            padding_md5: padding_md5.to_owned(),
        }
    }

    /// The frame's data.
    pub fn encode(&self) -> String {
        let Self { version, client, padding_md5 } = self;
        format!("v={version}\nclient={client}\npadding-md5={padding_md5}")
    }

    /// Reads the frame's data.
    pub fn parse(data: &[u8]) -> Self {
        let mut settings = Self::default();
        for_each_pair(data, |key, value| match key {
            "v" => settings.version = PeerVersion::parse(value),
            "client" => value.clone_into(&mut settings.client),
            "padding-md5" => value.clone_into(&mut settings.padding_md5),
            _ => {}
        });
        settings
    }
}

/// The server's ServerSettings: its answer to the settings of a version 2 client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerSettings {
    /// The server's version of the protocol.
    pub version: PeerVersion,
}

impl ServerSettings {
    /// The frame's data.
    pub fn encode(&self) -> String {
        format!("v={}", self.version)
    }

    /// Reads the frame's data.
    pub fn parse(data: &[u8]) -> Self {
        let mut settings = Self::default();
        for_each_pair(data, |key, value| {
            if key == "v" {
                settings.version = PeerVersion::parse(value);
            }
        });
        settings
    }
}

fn for_each_pair(data: &[u8], mut pair: impl FnMut(&str, &str)) {
    // Lossy, so that a broken byte spoils only its own line.
    for line in String::from_utf8_lossy(data).lines() {
        if let Some((key, value)) = line.split_once('=') {
            pair(key, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn settings_are_lines_without_a_last_line_break() {
        let settings = ClientSettings {
            version: PeerVersion::V2,
            client: "anytls-mobile/9.9".to_owned(),
            padding_md5: "75cff2ad89aadf5e257059ee571ebe11".to_owned(),
        };
        assert_eq!(
            settings.encode(),
            "v=2\nclient=anytls-mobile/9.9\npadding-md5=75cff2ad89aadf5e257059ee571ebe11"
        );
        assert_eq!(ServerSettings { version: PeerVersion::V2 }.encode(), "v=2");
    }

    #[test]
    fn our_settings_name_this_crate_and_version_2() {
        let text = ClientSettings::ours("0f").encode();
        assert!(text.starts_with("v=2\nclient=anytls-mobile/"), "{text}");
        assert!(text.ends_with("\npadding-md5=0f"), "{text}");
    }

    #[test]
    fn settings_of_the_reference_client_are_read() {
        // sing-anytls joins a map, so its order is arbitrary.
        let settings = ClientSettings::parse(b"padding-md5=75cf\nclient=sing-anytls/0.0.11\nv=2");
        assert_eq!(
            settings,
            ClientSettings {
                version: PeerVersion::V2,
                client: "sing-anytls/0.0.11".to_owned(),
                padding_md5: "75cf".to_owned(),
            }
        );
    }

    #[test]
    fn carriage_returns_unknown_keys_and_broken_lines_are_tolerated() {
        let settings = ClientSettings::parse(b"\r\nv=2\r\nnonsense\r\nfuture=x\r\nclient=a=b\r\n\r\n=\n");
        assert_eq!((settings.version, settings.client.as_str()), (PeerVersion::V2, "a=b"));
        assert_eq!(settings.padding_md5, "");
    }

    #[test]
    fn broken_utf8_spoils_only_its_own_line() {
        let settings = ClientSettings::parse(b"client=\xFF\xFE\nv=2\n\xC3");
        assert_eq!(settings.version, PeerVersion::V2);
    }

    #[test]
    fn version_that_is_missing_or_unreadable_is_1() {
        for text in ["", "v", "v=", "v=two", "v=-2", "v=0", "v=1", "V=2", "v=99999999999"] {
            assert_eq!(ServerSettings::parse(text.as_bytes()).version, PeerVersion::V1, "{text:?}");
        }
    }

    #[test]
    fn later_versions_count_as_2() {
        assert_eq!(ServerSettings::parse(b"v=3").version, PeerVersion::V2);
    }

    #[test]
    fn last_of_duplicate_keys_wins() {
        assert_eq!(ServerSettings::parse(b"v=2\nv=1").version, PeerVersion::V1);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(data in prop::collection::vec(any::<u8>(), 0..200)) {
            ClientSettings::parse(&data);
            ServerSettings::parse(&data);
        }
    }
}
