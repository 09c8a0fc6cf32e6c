//! The `tls` object of the outbound.

use std::path::PathBuf;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::host::Host;
use super::problem::{Findings, Severity};
use super::secret::Secret;
use super::section::{Field, Section};

/// How the connection is encrypted, and whom it trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsOptions {
    /// Whom the certificate must be for, and what the ClientHello names; `None` is the server's host.
    /// An address is never sent (RFC 6066), only verified.
    pub server_name: Option<Host>,
    /// Verify the name, but do not send it.
    pub disable_sni: bool,
    /// Take any certificate. The pins still hold.
    pub insecure: bool,
    /// Protocols offered, best first; each of 1 to 255 bytes.
    pub alpn: Vec<String>,
    /// The oldest version offered.
    pub min_version: TlsVersion,
    /// The newest version offered, not older than `min_version`.
    pub max_version: TlsVersion,
    /// Roots to trust in the place of the built-in ones.
    pub certificate: Option<Pem>,
    /// SHA-256 of the SubjectPublicKeyInfo: when there are any, the server's own certificate must carry
    /// one of these keys, and that stands for the verification of its chain and name, as in sing-box.
    pub certificate_public_key_sha256: Vec<[u8; 32]>,
    /// What to show to a server that asks who we are.
    pub client: Option<ClientCertificate>,
}

/// A TLS version that can be spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2, offered only when asked for.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// Where PEM text comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pem {
    /// The text, checked to hold what it should. Secret, since private keys come this way too.
    Text(Secret),
    /// A file, which whoever starts the tunnel reads and checks.
    File(PathBuf),
}

/// A certificate of the client's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The chain, the client's certificate first.
    pub certificate: Pem,
    /// Its private key.
    pub key: Pem,
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self {
            server_name: None,
            disable_sni: false,
            insecure: false,
            alpn: Vec::new(),
            min_version: TlsVersion::V1_3,
            max_version: TlsVersion::V1_3,
            certificate: None,
            certificate_public_key_sha256: Vec::new(),
            client: None,
        }
    }
}

/// What sing-box's object has beside the fields above. An error where going on would weaken what was
/// asked for, or could not reach the server; a warning where it only costs something else.
#[rustfmt::skip] // a table
const UNSUPPORTED: &[(&str, Severity, &str)] = &[
    ("reality", Severity::Error, "a server that requires REALITY cannot be reached"),
    ("ech", Severity::Error, "the server's name would be sent in the clear"),
    ("fragment", Severity::Error, "the ClientHello would leave in one piece"),
    ("record_fragment", Severity::Error, "the ClientHello would leave in one record"),
    ("fragment_fallback_delay", Severity::Warning, "there is no fragmentation"),
    ("utls", Severity::Warning, "the ClientHello imitates no browser: no server asks for it, and sing-box advises against it"),
    ("cipher_suites", Severity::Warning, "only safe suites are offered"),
    ("curve_preferences", Severity::Warning, "X25519, P-256 and P-384 are offered"),
    ("kernel_tx", Severity::Warning, "TLS runs in this process"),
    ("kernel_rx", Severity::Warning, "TLS runs in this process"),
    ("engine", Severity::Warning, "rustls is the only one"),
];

/// Too old to be spoken: `None`.
const VERSIONS: [(&str, Option<TlsVersion>); 4] =
    [("1.0", None), ("1.1", None), ("1.2", Some(TlsVersion::V1_2)), ("1.3", Some(TlsVersion::V1_3))];

pub(super) fn read(mut section: Section<'_>) -> TlsOptions {
    let enabled = section.field("enabled");
    if enabled.flag() == Some(false) {
        enabled.error("expected true: AnyTLS always runs over TLS");
    }
    let (min_version, max_version) = versions(&mut section);
    let options = TlsOptions {
        server_name: Host::read(&section.field("server_name")),
        disable_sni: section.field("disable_sni").flag().unwrap_or(false),
        insecure: section.field("insecure").flag().unwrap_or(false),
        alpn: section.field("alpn").list().iter().filter_map(protocol).collect(),
        min_version,
        max_version,
        certificate: pem(&mut section, ["certificate", "certificate_path"], has_certificates),
        certificate_public_key_sha256: pins(&section.field("certificate_public_key_sha256")),
        client: client_certificate(&mut section),
    };
    if options.certificate.is_some() && !options.certificate_public_key_sha256.is_empty() {
        let message = "expected either pins or certificates to trust: pins stand for the whole verification";
        section.error("certificate_public_key_sha256", message);
    }
    if options.insecure && options.certificate_public_key_sha256.is_empty() {
        warn_insecure(section.findings(), section.field("insecure").path());
    }
    section.unsupported(UNSUPPORTED);
    section.finish();
    options
}

pub(super) fn warn_insecure(findings: &Findings, path: &str) {
    findings.warn(path, "the certificate is not verified: whoever stands between can read everything");
}

fn versions(section: &mut Section<'_>) -> (TlsVersion, TlsVersion) {
    let newest = section.field("max_version");
    let max_version = newest.choice(&VERSIONS).unwrap_or(Some(TlsVersion::V1_3)).unwrap_or_else(|| {
        newest.error("expected 1.2 or 1.3: older versions are not spoken");
        TlsVersion::V1_3
    });
    let oldest = section.field("min_version");
    let min_version = oldest.choice(&VERSIONS).unwrap_or(Some(max_version)).unwrap_or_else(|| {
        oldest.warn("1.2 is the oldest version that is spoken");
        TlsVersion::V1_2
    });
    if min_version > max_version {
        oldest.error("expected a version not above max_version");
    }
    (min_version, max_version)
}

fn protocol(field: &Field<'_>) -> Option<String> {
    let is_valid = |name: &&str| (1..=255).contains(&name.len());
    field.parsed("a protocol name of 1 to 255 bytes", |name| Some(name).filter(is_valid)).map(str::to_owned)
}

/// Reads text (a string, or an array of its lines) or the path of a file.
fn pem(section: &mut Section<'_>, names: [&'static str; 2], is_valid: fn(&[u8]) -> bool) -> Option<Pem> {
    let [text, path] = names.map(|name| section.field(name));
    if text.is_given() && path.is_given() {
        path.error(format!("expected either {} or {}", names[0], names[1]));
    }
    let lines = text.list();
    if lines.is_empty() {
        return path.text().map(|path| Pem::File(path.into()));
    }
    // Every wrong line is reported, and one is enough to give up.
    let lines: Vec<_> = lines.iter().map(Field::text).collect();
    let joined = Secret::new(lines.into_iter().collect::<Option<Vec<_>>>()?.join("\n"));
    if !is_valid(joined.expose()) {
        text.error("expected PEM text, from its BEGIN line to its END line");
        return None;
    }
    Some(Pem::Text(joined))
}

fn has_certificates(pem: &[u8]) -> bool {
    let mut certificates = CertificateDer::pem_slice_iter(pem).peekable();
    certificates.peek().is_some() && certificates.all(|certificate| certificate.is_ok())
}

fn has_key(pem: &[u8]) -> bool {
    PrivateKeyDer::from_pem_slice(pem).is_ok()
}

fn client_certificate(section: &mut Section<'_>) -> Option<ClientCertificate> {
    let given = |section: &mut Section<'_>, names: [&'static str; 2]| {
        names.into_iter().any(|name| section.field(name).is_given())
    };
    let certificate_names = ["client_certificate", "client_certificate_path"];
    let key_names = ["client_key", "client_key_path"];
    match (given(section, certificate_names), given(section, key_names)) {
        (true, false) => section.error("client_key", "expected the key of client_certificate"),
        (false, true) => section.error("client_certificate", "expected the certificate of client_key"),
        (true, true) | (false, false) => {}
    }
    let certificate = pem(section, certificate_names, has_certificates);
    let key = pem(section, key_names, has_key);
    Some(ClientCertificate { certificate: certificate?, key: key? })
}

fn pins(field: &Field<'_>) -> Vec<[u8; 32]> {
    let expected = "a SHA-256 in base64 (44 characters)";
    field.list().iter().filter_map(|pin| pin.parsed(expected, decode_pin)).collect()
}

/// Decodes 32 bytes of standard base64: 43 digits and one `=`.
fn decode_pin(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_suffix('=').filter(|digits| digits.len() == 43)?;
    let mut pin = [0; 32];
    let mut bytes = pin.iter_mut();
    // The bits that are not in a byte yet: `pending` of them, the lowest.
    let (mut bits, mut pending) = (0_u32, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        pending += 6;
        if pending >= 8 {
            pending -= 8;
            *bytes.next()? = u8::try_from(bits >> pending).ok()?;
            bits &= (1 << pending) - 1;
        }
    }
    (bits == 0).then_some(pin)
}
