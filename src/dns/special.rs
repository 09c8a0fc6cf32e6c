//! Names that mean something besides what a resolver says of them.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::Name;

/// What is said of a name that is asked of nobody, whatever type of record is wanted.
pub(super) fn code(name: &Name) -> Option<ResponseCode> {
    // RFC 9462, section 6.4: the resolver's encrypted doors are not ours, and would be a way round us.
    if is_below(name, &["resolver", "arpa"]) {
        return Some(ResponseCode::NoError);
    }
    // RFC 6761, section 6.4; RFC 7686, section 2; and Firefox, which else may do its own DNS over HTTPS.
    let is_absent = is_below(name, &["invalid"])
        || is_below(name, &["onion"])
        || is_below(name, &["use-application-dns", "net"]);
    is_absent.then_some(ResponseCode::NXDomain)
}

/// Names that mean something only in the network that is asked: those of one label (a server would complete them
/// to names of its own network), reverse lookups, `ipv4only.arpa` (RFC 8880).
pub(super) fn is_never_faked(name: &Name) -> bool {
    name.iter().len() < 2 || is_below(name, &["arpa"])
}

/// Whether the name is that one or below it.
fn is_below(name: &Name, suffix: &[&str]) -> bool {
    let labels = name.iter();
    let begins_at = labels.len().checked_sub(suffix.len());
    begins_at.is_some_and(|at| {
        labels.skip(at).zip(suffix).all(|(label, text)| label.eq_ignore_ascii_case(text.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).expect("a name")
    }

    #[test]
    fn some_names_are_asked_of_nobody() {
        for (text, expected) in [
            ("resolver.arpa.", Some(ResponseCode::NoError)),
            ("_dns.Resolver.ARPA.", Some(ResponseCode::NoError)),
            ("invalid.", Some(ResponseCode::NXDomain)),
            ("a.b.invalid.", Some(ResponseCode::NXDomain)),
            ("facebookcorewwwi.onion.", Some(ResponseCode::NXDomain)),
            ("use-application-dns.net.", Some(ResponseCode::NXDomain)),
            ("application-dns.net.", None),
            ("invalid.example.", None),
            ("notinvalid.", None),
            ("in-addr.arpa.", None),
            (".", None),
        ] {
            assert_eq!(code(&name(text)), expected, "{text}");
        }
    }

    #[test]
    fn names_of_a_network_are_not_faked() {
        for text in [".", "wpad.", "ipv4only.arpa.", "1.2.0.192.in-addr.arpa."] {
            assert!(is_never_faked(&name(text)), "{text}");
        }
        for text in ["example.com.", "a.b.", "arpa.example."] {
            assert!(!is_never_faked(&name(text)), "{text}");
        }
    }
}
