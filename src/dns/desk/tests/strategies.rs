//! Which family of addresses apps are told of.

use super::*;

fn one_of(kind: RecordType) -> impl Fn(&mut Message) {
    move |answer| {
        let record = if kind == RecordType::A { a("example.com", 60) } else { aaaa("example.com", 60) };
        answer.add_answer(record);
    }
}

fn none(answer: &mut Message) {
    answer.add_authority(soa("com", 60, 60));
}

/// Whether an HTTPS record that has hints of both families is passed on with the IPv4 and the IPv6 ones.
fn hints(rig: &mut Rig) -> (bool, bool) {
    let answer = rig.resolve(&query("example.com", RecordType::HTTPS), |answer| {
        answer.add_answer(forwarding::https("example.com"));
    });
    let RData::HTTPS(https) = &answer.answers[0].data else { panic!("{answer}") };
    let has = |key| https.svc_params.iter().any(|(had, _)| *had == key);
    (has(SvcParamKey::Ipv4Hint), has(SvcParamKey::Ipv6Hint))
}

/// Each `Prefer` strategy with the preferred type and the other one.
const PREFERENCES: [(DnsStrategy, RecordType, RecordType); 2] = [
    (DnsStrategy::PreferIpv4, RecordType::A, RecordType::AAAA),
    (DnsStrategy::PreferIpv6, RecordType::AAAA, RecordType::A),
];

#[test]
fn the_family_left_out_has_no_addresses() {
    for (strategy, kept, left_out) in [
        (DnsStrategy::Ipv4Only, RecordType::A, RecordType::AAAA),
        (DnsStrategy::Ipv6Only, RecordType::AAAA, RecordType::A),
    ] {
        let mut rig = Rig::new(DnsMode::Forward, strategy);
        assert!(is_nodata(&rig.ask(&query("example.com", left_out))));
        let answer = rig.resolve(&query("example.com", kept), one_of(kept));
        assert_eq!(addresses(&answer).len(), 1);
        assert_eq!(hints(&mut rig), (kept == RecordType::A, kept == RecordType::AAAA));
    }
}

#[test]
fn the_other_family_is_told_only_of_names_without_the_preferred_one() {
    for (strategy, preferred, other) in PREFERENCES {
        let mut rig = Rig::new(DnsMode::Forward, strategy);
        let client = rig.send(&query("EXAMPLE.com", other));
        rig.say(|answer| {
            assert_eq!(answer.queries[0].query_type(), preferred);
            one_of(preferred)(answer);
        });
        let answer = rig.answer_for(client);
        assert!(is_nodata(&answer), "{answer}");
        assert_eq!(answer.queries[0].query_type(), other);
        assert!(is_nodata(&rig.ask(&query("example.com", other))), "from the cache");
        assert_eq!(addresses(&rig.ask(&query("example.com", preferred))).len(), 1);

        let mut rig = Rig::new(DnsMode::Forward, strategy);
        let client = rig.send(&query("example.com", other));
        rig.say(none);
        rig.say(one_of(other));
        assert_eq!(addresses(&rig.answer_for(client)).len(), 1);
        assert_eq!(addresses(&rig.ask(&query("example.com", other))).len(), 1, "from the cache");
        assert!(is_nodata(&rig.ask(&query("example.com", preferred))), "from the cache");
    }
}

#[test]
fn hints_of_the_other_family_are_left_out() {
    for (strategy, preferred, _) in PREFERENCES {
        let mut rig = Rig::new(DnsMode::Forward, strategy);
        assert_eq!(hints(&mut rig), (preferred == RecordType::A, preferred == RecordType::AAAA));
    }
}

#[test]
fn a_name_that_does_not_exist_is_asked_for_once() {
    for (strategy, _, other) in PREFERENCES {
        let mut rig = Rig::new(DnsMode::Forward, strategy);
        let client = rig.send(&query("example.com", other));
        rig.say(|answer| {
            answer.metadata.response_code = ResponseCode::NXDomain;
            none(answer);
        });
        let answer = rig.answer_for(client);
        assert_eq!(answer.response_code, ResponseCode::NXDomain);
        assert_eq!((answer.queries[0].query_type(), answer.authorities.len()), (other, 1));
        assert!(rig.desk.poll_question().is_none());
    }
}

#[test]
fn the_preferred_family_is_asked_for_as_it_is() {
    for (strategy, preferred, _) in PREFERENCES {
        let mut rig = Rig::new(DnsMode::Forward, strategy);
        rig.assert_forwarded(&query("example.com", preferred));
        rig.assert_forwarded(&query("example.com", RecordType::MX));
    }
}

#[test]
fn both_families_wait_for_one_question() {
    for (strategy, preferred, other) in PREFERENCES {
        let mut rig = Rig::new(DnsMode::Forward, strategy);
        let first = rig.send(&query("example.com", other));
        let second = rig.send(&query("example.com", preferred));
        rig.say(one_of(preferred));
        let answers = rig.answers();
        assert!(is_nodata(&answers[&first]) && addresses(&answers[&second]).len() == 1);
        assert!(rig.desk.poll_question().is_none());
    }
}

#[test]
fn when_the_preferred_family_is_not_to_be_had_the_plain_answer_is_given() {
    for (strategy, _, other) in PREFERENCES {
        let mut rig = Rig::new(DnsMode::Forward, strategy);
        let client = rig.send(&query("example.com", other));
        let (ticket, _) = rig.question();
        rig.desk.handle_failure(ticket, rig.now);
        assert!(rig.answers().is_empty());
        rig.say(one_of(other));
        assert_eq!(addresses(&rig.answer_for(client)).len(), 1);

        let client = rig.send(&query("slow.example", other));
        rig.question();
        rig.wait(5);
        rig.desk.handle_timeout(rig.now);
        assert_eq!(rig.answer_for(client).response_code, ResponseCode::ServFail, "nobody waits longer");
        assert_eq!(rig.desk.counters().in_flight, 0);
    }
}
