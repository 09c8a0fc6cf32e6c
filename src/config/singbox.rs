//! What a whole sing-box config says about one AnyTLS outbound.

use super::section::{Field, Section, enumerate};
use super::tun::TunOptions;
use super::{Config, Defaults, DnsOptions, log, server};

/// Reads the outbound, the TUN and the log level; the rest is reported in a line a place.
pub(super) fn read(mut root: Section<'_>, defaults: &Defaults) -> Option<Config> {
    let log = log::read(root.field("log").section());
    let tun = tun(&root.field("inbounds"), defaults);
    let server = only_anytls(&root.field("outbounds")).and_then(|outbound| server::read(outbound, defaults));
    root.finish_in_one("not used, all traffic goes to the one server");
    Some(Config { log, server: server?, tun, dns: DnsOptions::default() })
}

fn only_anytls<'a>(outbounds: &Field<'a>) -> Option<Section<'a>> {
    let (mut found, others) = of_type(outbounds, "anytls");
    match found.len() {
        0 => outbounds.error("expected an outbound of type anytls"),
        1 => warn_of_others(outbounds, &found[0], others),
        _ => {
            let paths = enumerate(found.iter().map(|field| field.path().to_owned()));
            outbounds.error(format!("expected one outbound of type anytls, found {paths}"));
            return None;
        }
    }
    found.pop().map(|field| field.section())
}

fn tun(inbounds: &Field<'_>, defaults: &Defaults) -> TunOptions {
    let (found, others) = of_type(inbounds, "tun");
    let Some(first) = found.first() else {
        if others > 0 {
            inbounds.warn("not used: none is of type tun");
        }
        return TunOptions::new(defaults);
    };
    warn_of_others(inbounds, first, others + found.len() - 1);
    let mut section = first.section();
    let _ = (section.field("type"), section.field("tag"));
    let options = TunOptions::read(&mut section, defaults);
    section.finish_in_one("not used");
    options
}

/// The elements of that type, and how many others there are.
fn of_type<'a>(list: &Field<'a>, wanted: &str) -> (Vec<Field<'a>>, usize) {
    let (found, others): (Vec<_>, Vec<_>) =
        list.list().into_iter().partition(|element| element.section().field("type").is_word(wanted));
    (found, others.len())
}

fn warn_of_others(list: &Field<'_>, used: &Field<'_>, others: usize) {
    if others > 0 {
        list.warn(format!("only {} is used, {others} more are not", used.path()));
    }
}
