//! What is no plain question, and what every answer repeats.

use proptest::prelude::*;

use super::*;

#[test]
fn what_is_no_query_is_not_answered() {
    let mut rig = Rig::forward();
    let response = query("example.com", RecordType::A).into_response().to_vec().expect("a message");
    for bytes in [&[][..], &[0; 11], &response] {
        rig.desk.handle_query(bytes, Via::Udp, 0, rig.now);
        assert!(rig.desk.poll_answer().is_none() && rig.desk.poll_question().is_none());
    }
    assert_eq!(rig.desk.counters().malformed, 3);
    assert_eq!(rig.desk.counters().udp_queries, 3);
}

#[test]
fn other_operations_are_not_implemented() {
    for op_code in [OpCode::Status, OpCode::Notify, OpCode::Update, OpCode::Unknown(6)] {
        let mut query = query("example.com", RecordType::A);
        query.metadata.op_code = op_code;
        let answer = Rig::forward().ask(&query);
        assert_eq!((answer.response_code, answer.op_code, answer.id), (ResponseCode::NotImp, op_code, 4711));
        assert_eq!(answer.message_type, MessageType::Response);
    }
}

#[test]
fn a_query_has_one_question() {
    let mut none = query("example.com", RecordType::A);
    none.queries.clear();
    let mut two = query("example.com", RecordType::A);
    two.add_query(two.queries[0].clone());
    for query in [none, two] {
        let mut rig = Rig::forward();
        let answer = rig.ask(&query);
        assert_eq!((answer.response_code, answer.id), (ResponseCode::FormErr, 4711));
        assert_eq!(rig.desk.counters().malformed, 1);
    }
}

#[test]
fn a_query_that_cannot_be_read_is_a_format_error() {
    let whole = with_edns(query("example.com", RecordType::A), 1232, false).to_vec().expect("a message");
    for end in 12..whole.len() {
        let mut rig = Rig::forward();
        rig.desk.handle_query(&whole[..end], Via::Udp, 1, rig.now);
        assert_eq!(rig.answer_for(1).response_code, ResponseCode::FormErr, "cut to {end}");
    }
    let mut doubled = [&whole[..], &whole[whole.len() - 11..]].concat();
    doubled[11] = 2; // OPT twice
    let (front, opt) = whole.split_at(whole.len() - 11);
    let named = [front, b"\x01a", opt].concat(); // OPT of a name
    for bytes in [doubled, named] {
        let mut rig = Rig::forward();
        rig.desk.handle_query(&bytes, Via::Udp, 1, rig.now);
        assert_eq!(rig.answer_for(1).response_code, ResponseCode::FormErr);
    }
}

#[test]
fn other_classes_and_transfers_are_refused() {
    let mut chaos = query("version.bind", RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    for query in [chaos, query("example.com", RecordType::AXFR), query("example.com", RecordType::IXFR)] {
        let answer = Rig::forward().ask(&query);
        assert_eq!(answer.response_code, ResponseCode::Refused, "{query}");
        assert_eq!(answer.queries, query.queries);
    }
    let mut any = query("example.com", RecordType::A);
    any.queries[0].set_query_class(DNSClass::ANY);
    Rig::forward().assert_forwarded(&any);
    Rig::forward().assert_forwarded(&query("example.com", RecordType::ANY));
}

#[test]
fn an_unknown_version_of_edns_is_a_bad_version() {
    let mut query = with_edns(query("example.com", RecordType::A), 1232, false);
    query.edns.as_mut().expect("set").set_version(1);
    let answer = Rig::forward().ask(&query);
    assert_eq!(u16::from(answer.response_code), 16);
    assert_eq!(answer.edns.expect("OPT").version(), 0);
}

#[test]
fn answers_repeat_the_letters_the_id_and_the_bits() {
    for (desired, disabled, dnssec_ok) in [(true, false, false), (false, true, true)] {
        let mut query = with_edns(query("eXaMPle.COM", RecordType::TXT), 1232, dnssec_ok);
        query.metadata.recursion_desired = desired;
        query.metadata.checking_disabled = disabled;
        let answer = Rig::forward().resolve(&query, |_| ());
        assert_eq!(answer.id, 4711);
        assert!(answer.queries[0].name().eq_case(query.queries[0].name()));
        assert_eq!((answer.recursion_desired, answer.checking_disabled), (desired, disabled));
        assert!(answer.recursion_available && !answer.authoritative);
        let edns = answer.edns.expect("OPT");
        assert_eq!((edns.flags().dnssec_ok, edns.max_payload()), (dnssec_ok, 4096));
    }
    assert!(Rig::forward().resolve(&query("a", RecordType::A), |_| ()).edns.is_none(), "not asked with");
}

#[test]
fn names_of_this_machine_are_answered_here() {
    for mut rig in [Rig::forward(), Rig::fake()] {
        for text in ["localhost", "a.LocalHost"] {
            let answer = rig.ask(&query(text, RecordType::A));
            assert_eq!(addresses(&answer), [IpAddr::V4(Ipv4Addr::LOCALHOST)]);
            let answer = rig.ask(&query(text, RecordType::AAAA));
            assert_eq!(addresses(&answer), [IpAddr::V6(Ipv6Addr::LOCALHOST)]);
            assert!(is_nodata(&rig.ask(&query(text, RecordType::TXT))));
        }
        assert_eq!(rig.desk.counters().local_answers, 6);
    }
    Rig::forward().assert_forwarded(&query("localhost.example", RecordType::A));
}

#[test]
fn names_that_are_no_names_of_the_internet_are_asked_of_nobody() {
    for mode in [DnsMode::Forward, DnsMode::FakeIp] {
        for text in ["use-application-dns.net", "a.invalid", "hidden.ONION"] {
            for kind in [RecordType::A, RecordType::AAAA, RecordType::HTTPS] {
                let mut rig = Rig::new(mode, DnsStrategy::AsAsked);
                let answer = rig.ask(&query(text, kind));
                assert_eq!(
                    (answer.response_code, answer.answers.len()),
                    (ResponseCode::NXDomain, 0),
                    "{text}"
                );
                assert_eq!(rig.desk.counters().local_answers, 1);
            }
        }
    }
}

#[test]
fn encrypted_doors_of_the_resolver_are_not_told() {
    for mut rig in [Rig::forward(), Rig::fake()] {
        assert!(is_nodata(&rig.ask(&query("_dns.Resolver.arpa", RecordType::SVCB))));
    }
    Rig::forward().assert_forwarded(&query("resolver.example", RecordType::SVCB));
}

#[test]
fn local_answers_are_for_a_short_time() {
    let mut rig = Rig::fake();
    for query in
        [query("a.b", RecordType::A), query("localhost", RecordType::A), query("localhost", RecordType::MX)]
    {
        let answer = rig.ask(&query);
        assert!(answer.all_sections().all(|record| record.ttl == 10), "{answer}");
        assert_eq!(answer.all_sections().count(), 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_message_gets_one_answer_or_is_no_query(bytes in damaged_query(), fake: bool, tcp: bool) {
        let mut rig = if fake { Rig::fake() } else { Rig::forward() };
        let via = if tcp { Via::Tcp } else { Via::Udp };
        rig.desk.handle_query(&bytes, via, 1, rig.now);
        if let Some((ticket, question)) = rig.desk.poll_question() {
            prop_assert!(Message::from_vec(&question).is_ok());
            rig.desk.handle_failure(ticket, rig.now);
        }
        let is_query = bytes.len() >= 12 && bytes[2] & 0x80 == 0;
        let answer = rig.desk.poll_answer();
        prop_assert_eq!(answer.is_some(), is_query);
        prop_assert!(rig.desk.poll_answer().is_none() && rig.desk.poll_timeout().is_none());
        if let Some((_, answer)) = answer {
            prop_assert_eq!(&answer[..2], &bytes[..2]);
            prop_assert!(Message::from_vec(&answer).is_ok_and(|answer| answer.message_type == MessageType::Response));
        }
    }

    #[test]
    fn any_answer_is_passed_on_or_a_failure(bytes in damaged_answer(), strategy in 0..3) {
        let mut rig = match strategy {
            0 => Rig::forward(),
            1 => Rig::fake(),
            _ => Rig::new(DnsMode::Forward, DnsStrategy::Ipv4Only),
        };
        rig.send_via(&query("example.com", RecordType::HTTPS), Via::Tcp);
        let (ticket, _) = rig.question();
        rig.desk.handle_answer(ticket, &bytes, rig.now);
        let (_, answer) = rig.desk.poll_answer().expect("an answer");
        prop_assert_eq!(&answer[..2], &4711_u16.to_be_bytes());
        prop_assert!(rig.desk.poll_answer().is_none());
        rig.wait(1);
        rig.send_via(&query("example.com", RecordType::HTTPS), Via::Tcp); // maybe from the cache
        prop_assert!(rig.desk.poll_answer().is_some() || rig.desk.poll_question().is_some());
    }
}

fn damage(bytes: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let spot = (any::<prop::sample::Index>(), any::<u8>());
    (Just(bytes), prop::collection::vec(spot, 0..4), any::<prop::sample::Index>(), 0..3).prop_map(
        |(mut bytes, spots, end, cut)| {
            for (at, byte) in spots {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if cut == 0 {
                bytes.truncate(end.index(bytes.len()));
            }
            bytes
        },
    )
}

fn damaged_query() -> impl Strategy<Value = Vec<u8>> {
    let kinds = prop::sample::select(vec![
        RecordType::A,
        RecordType::AAAA,
        RecordType::HTTPS,
        RecordType::PTR,
        RecordType::ANY,
    ]);
    let names =
        prop::sample::select(vec!["example.com", "localhost", "1.0.18.198.in-addr.arpa", "a.lan", "."]);
    let whole = (kinds, names).prop_flat_map(|(kind, text)| {
        damage(with_edns(query(text, kind), 1232, true).to_vec().expect("a message"))
    });
    prop_oneof![4 => whole, 1 => prop::collection::vec(any::<u8>(), 0..100)]
}

fn damaged_answer() -> impl Strategy<Value = Vec<u8>> {
    let whole = with_edns(query("example.com", RecordType::HTTPS), 1232, true);
    let whole = answer_to(&whole, |answer| {
        answer.add_answer(forwarding::https("example.com"));
        answer.add_authority(soa("com", 60, 60));
        answer.add_additional(a("example.com", 60));
    });
    prop_oneof![4 => damage(whole), 1 => prop::collection::vec(any::<u8>(), 0..100)]
}
