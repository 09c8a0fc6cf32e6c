//! What the resolver is asked, and what becomes of what it says.

use super::*;

pub(super) fn https(text: &str) -> Record {
    use SvcParamKey as Key;
    let params = vec![
        (Key::Mandatory, SvcParamValue::Mandatory(Mandatory(vec![Key::Port, Key::Ipv4Hint]))),
        (Key::Port, SvcParamValue::Port(8443)),
        (Key::Ipv4Hint, SvcParamValue::Ipv4Hint(IpHint(vec![Ipv4Addr::new(192, 0, 2, 1).into()]))),
        (Key::Ipv6Hint, SvcParamValue::Ipv6Hint(IpHint(vec![Ipv6Addr::LOCALHOST.into()]))),
    ];
    record(text, 300, RData::HTTPS(HTTPS(SVCB::new(1, Name::root(), params))))
}

#[test]
fn the_resolver_is_asked_the_plain_question_without_the_clients_options() {
    use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsOption};
    let mut asked = with_edns(query("eXample.com", RecordType::TXT), 700, true);
    let subnet = ClientSubnet::new(Ipv4Addr::new(10, 1, 2, 3).into(), 24, 0);
    asked.edns.as_mut().expect("set").options_mut().insert(EdnsOption::Subnet(subnet));
    asked.metadata.checking_disabled = true;
    let mut rig = Rig::forward();
    rig.send(&asked);
    let (_, question) = rig.question();
    assert_eq!(question.id, 0);
    assert!(question.queries[0].name().eq_case(&name("example.com")), "all clients' letters are the same");
    assert!(question.recursion_desired && question.checking_disabled && question.authentic_data);
    let edns = question.edns.expect("OPT");
    assert!(edns.flags().dnssec_ok && edns.options().as_ref().is_empty() && edns.max_payload() == 4096);
    assert!(rig.desk.poll_question().is_none(), "asked once");
}

#[test]
fn records_of_all_sections_arrive_as_they_were_sent() {
    let mut rig = Rig::forward();
    let say = |answer: &mut Message| {
        answer.add_answer(record("example.com", 50, RData::CNAME(CNAME(name("www.example.com")))));
        answer.add_answer(a("www.example.com", 60));
        answer.add_answer(record(
            "www.example.com",
            70,
            RData::Unknown {
                code: RecordType::Unknown(4242),
                rdata: hickory_proto::rr::rdata::NULL::with(b"anything".to_vec()),
            },
        ));
        answer.add_authority(soa("com", 80, 5));
        answer.add_additional(aaaa("ns.example", 90));
        answer.metadata.authoritative = true;
    };
    let mut expected = query("EXAMPLE.com", RecordType::A);
    say(&mut expected);
    let answer = rig.resolve(&query("EXAMPLE.com", RecordType::A), say);
    assert_eq!(answer.answers, expected.answers);
    assert_eq!(answer.authorities, expected.authorities);
    assert_eq!(answer.additionals, expected.additionals);
    assert!(!answer.authoritative, "it is not ours");
}

/// Written by hand: an OPT record in the middle, after which all names move.
#[test]
fn opt_in_the_middle_is_taken_out() {
    let mut rig = Rig::forward();
    let client = rig.send(&query("a.bc", RecordType::A));
    let (ticket, _) = rig.question();
    let answer = [
        &b"\0\0\x81\x80\0\x01\0\x01\0\0\0\x03"[..],
        b"\x01a\x02bc\0\0\x01\0\x01",
        b"\xC0\x0C\0\x01\0\x01\0\0\0\x3C\0\x04\xC0\0\x02\x01",
        b"\0\0\x29\x10\0\0\0\0\0\0\x08\0\x0C\0\x04pad!",
        b"\x01x\xC0\x0E\0\x01\0\x01\0\0\0\x3C\0\x04\xC0\0\x02\x02",
        b"\xC0\x39\0\x01\0\x01\0\0\0\x3C\0\x04\xC0\0\x02\x03",
    ]
    .concat();
    assert_eq!(&answer[0x39..0x3B], b"\x01x", "what the last record points to");
    rig.desk.handle_answer(ticket, &answer, rig.now);
    let answer = rig.answer_for(client);
    assert_eq!(addresses(&answer), [IpAddr::from([192, 0, 2, 1])]);
    let names: Vec<_> = answer.additionals.iter().map(|record| record.name.to_ascii()).collect();
    assert_eq!(names, ["x.bc.", "x.bc."]);
    assert!(answer.edns.is_none());
}

#[test]
fn opt_twice_is_no_answer() {
    let mut rig = Rig::forward();
    let client = rig.send(&query("example.com", RecordType::A));
    let (ticket, question) = rig.question();
    let mut answer = answer_to(&question, |_| ());
    answer.extend_from_within(answer.len() - 11..);
    answer[11] = 2;
    rig.desk.handle_answer(ticket, &answer, rig.now);
    assert_eq!(rig.answer_for(client).response_code, ResponseCode::ServFail);
}

#[test]
fn whether_an_answer_was_validated_is_told_to_those_who_ask() {
    let mut rig = Rig::forward();
    let say = |answer: &mut Message| {
        answer.metadata.authentic_data = true;
        answer.add_answer(a("example.com", 60));
    };
    assert!(!rig.resolve(&query("example.com", RecordType::A), say).authentic_data);
    let mut asking = query("example.com", RecordType::A);
    asking.metadata.authentic_data = true;
    assert!(rig.ask(&asking).authentic_data);
    let with_dnssec = with_edns(query("example.com", RecordType::A), 1232, true);
    assert!(rig.resolve(&with_dnssec, say).authentic_data, "another question");
}

#[test]
fn answers_larger_than_a_client_takes_are_truncated_over_udp_only() {
    let text = |bytes: usize| {
        let strings = vec!["x".repeat(249); bytes / 250];
        record("example.com", 60, RData::TXT(TXT::new(strings)))
    };
    let plain = query("example.com", RecordType::TXT);
    for (query, via, bytes, whole) in [
        (plain.clone(), Via::Udp, 250, true),
        (plain.clone(), Via::Udp, 500, false),
        (with_edns(plain.clone(), 100, false), Via::Udp, 250, true),
        (with_edns(plain.clone(), 1232, false), Via::Udp, 1000, true),
        (with_edns(plain.clone(), 1232, false), Via::Udp, 1250, false),
        (with_edns(plain.clone(), 65_535, false), Via::Udp, 4000, true),
        (with_edns(plain.clone(), 65_535, false), Via::Udp, 4250, false),
        (plain.clone(), Via::Tcp, 4250, true),
        (with_edns(plain, 512, false), Via::Tcp, 60_000, true),
    ] {
        let roomy =
            DeskOptions { memory_bytes: 4 * MEMORY, ..options(DnsMode::Forward, DnsStrategy::AsAsked) };
        let mut rig = Rig::with(roomy);
        let client = rig.send_via(&query, via);
        rig.say(|answer| {
            answer.add_answer(text(bytes));
        });
        let answer = rig.answer_for(client);
        assert_eq!(answer.truncation, !whole, "{via:?} {bytes}");
        assert_eq!(answer.answers.len(), usize::from(whole));
        assert_eq!(answer.edns.is_some(), query.edns.is_some());
        assert_eq!(rig.desk.counters().truncated, u64::from(!whole));
        let again = rig.send_via(&query, Via::Tcp);
        assert_eq!(rig.answer_for(again).answers.len(), 1, "whole over TCP, from the cache");
    }
}

#[test]
fn an_answer_to_another_question_is_a_failure() {
    let asked = query("example.com", RecordType::A);
    let wrong: [fn(&mut Message); 8] = [
        |answer| answer.queries[0] = Asked::query(name("example.org"), RecordType::A),
        |answer| answer.queries[0] = Asked::query(name("example.com"), RecordType::AAAA),
        |answer| _ = answer.queries[0].set_query_class(DNSClass::CH),
        |answer| answer.queries.clear(),
        |answer| answer.metadata.message_type = MessageType::Query,
        |answer| answer.metadata.op_code = OpCode::Status,
        |answer| answer.metadata.response_code = ResponseCode::BADVERS,
        |answer| answer.queries.push(answer.queries[0].clone()),
    ];
    for (number, wrong) in wrong.into_iter().enumerate() {
        let mut rig = Rig::forward();
        let answer = rig.resolve(&asked, |answer| {
            answer.add_answer(a("example.com", 60));
            wrong(answer);
        });
        assert_eq!(answer.response_code, ResponseCode::ServFail, "{number}");
        assert!(answer.answers.is_empty() && answer.queries == asked.queries);
        let counters = rig.desk.counters();
        assert_eq!((counters.failures, counters.cache_entries), (1, 0));
        assert_eq!(counters.resolve_times.median(), None);
    }
    let mut rig = Rig::forward();
    let answer = rig.resolve(&query("example.com", RecordType::HTTPS), |answer| {
        answer.queries[0].set_query_type(RecordType::Unknown(97)); // 65 as a small letter
    });
    assert_eq!(answer.response_code, ResponseCode::ServFail);
    let answer = rig.resolve(&asked, |answer| {
        answer.queries[0].set_name(name("EXAMPLE.COM"));
        answer.add_answer(a("example.com", 60));
    });
    assert_eq!(addresses(&answer).len(), 1, "letters do not matter");
}

#[test]
fn the_same_question_is_asked_once_and_each_client_is_answered_its_way() {
    let mut rig = Rig::forward();
    let first = rig.send(&query("example.com", RecordType::A));
    let mut other = with_edns(query("EXAMPLE.com", RecordType::A), 1232, false);
    other.metadata.id = 12;
    let second = rig.send(&other);
    let other_kind = rig.send(&query("example.com", RecordType::MX));
    let with_dnssec = rig.send(&with_edns(query("example.com", RecordType::A), 1232, true));
    rig.say(|answer| _ = answer.add_answer(a("example.com", 60)));
    let answers = rig.answers();
    assert_eq!(answers.keys().copied().collect::<Vec<_>>(), [first, second]);
    assert!(answers[&first].id == 4711 && answers[&second].id == 12);
    assert!(answers[&first].edns.is_none() && answers[&second].edns.is_some());
    assert!(answers[&second].queries[0].name().eq_case(&name("EXAMPLE.com")));
    rig.say(|_| ());
    rig.say(|_| ());
    assert_eq!(rig.answers().into_keys().collect::<Vec<_>>(), [other_kind, with_dnssec]);
    let counters = rig.desk.counters();
    assert_eq!((counters.forwarded, counters.coalesced, counters.in_flight, counters.waiting), (3, 1, 0, 0));
}

#[test]
fn a_question_fails_five_seconds_after_it_was_first_asked() {
    let mut rig = Rig::forward();
    assert_eq!(rig.desk.poll_timeout(), None);
    let asked = rig.now;
    let first = rig.send(&query("example.com", RecordType::A));
    let (ticket, question) = rig.question();
    rig.wait(2);
    let later = rig.send(&query("example.com", RecordType::A));
    let unasked = rig.send(&query("example.org", RecordType::A));
    assert_eq!(rig.desk.poll_timeout(), Some(asked + Duration::from_secs(5)));
    rig.wait(2);
    rig.desk.handle_timeout(rig.now);
    assert!(rig.answers().is_empty());
    rig.wait(1);
    rig.desk.handle_timeout(rig.now);
    let answers = rig.answers();
    assert_eq!(answers.keys().copied().collect::<Vec<_>>(), [first, later]);
    assert!(answers.values().all(|answer| answer.response_code == ResponseCode::ServFail));
    rig.desk.handle_answer(ticket, &answer_to(&question, |_| ()), rig.now);
    rig.desk.handle_failure(ticket, rig.now);
    assert!(rig.answers().is_empty(), "too late");
    rig.wait(2);
    rig.desk.handle_timeout(rig.now);
    assert_eq!(rig.answers().into_keys().collect::<Vec<_>>(), [unasked]);
    assert!(rig.desk.poll_question().is_none(), "nobody waits for it");
    assert_eq!(rig.desk.poll_timeout(), None);
    rig.send(&query("example.org", RecordType::A));
    rig.wait(5);
    rig.desk.handle_timeout(rig.now);
    rig.answers();
    rig.assert_forwarded(&query("example.net", RecordType::A));
}

#[test]
fn too_many_questions_are_refused_at_once() {
    let mut rig =
        Rig::with(DeskOptions { memory_bytes: 1 << 30, ..options(DnsMode::Forward, DnsStrategy::AsAsked) });
    for number in 0..1024 {
        rig.send(&query(&format!("{number}.example"), RecordType::A));
    }
    let client = rig.send(&query("one.more.example", RecordType::A));
    assert_eq!(rig.answer_for(client).response_code, ResponseCode::ServFail);
    for _ in 1024..4096 {
        rig.send(&query("1.example", RecordType::A)); // waits with others
        assert!(rig.desk.poll_answer().is_none());
    }
    let client = rig.send(&query("1.example", RecordType::A));
    assert_eq!(rig.answer_for(client).response_code, ResponseCode::ServFail);
    let counters = rig.desk.counters();
    assert_eq!((counters.in_flight, counters.waiting, counters.refused_overload), (1024, 4096, 2));
    rig.wait(5);
    rig.desk.handle_timeout(rig.now);
    assert_eq!(rig.answers().len(), 4096);
    assert_eq!(rig.desk.flights.bytes(), 0);
}

#[test]
fn queries_that_wait_are_bounded_in_bytes() {
    let mut rig =
        Rig::with(DeskOptions { memory_bytes: 64 << 10, ..options(DnsMode::Forward, DnsStrategy::AsAsked) });
    for number in 0..1000 {
        rig.send(&query(&format!("{number}.{}.example", "x".repeat(60)), RecordType::A));
    }
    let counters = rig.desk.counters();
    assert!((40..80).contains(&counters.in_flight), "{counters:?}");
    assert_eq!(counters.refused_overload, 1000 - counters.forwarded);
    assert!(rig.desk.flights.bytes() <= 32 << 10);
}

#[test]
fn who_comes_late_has_a_question_of_its_own() {
    let mut rig = Rig::forward();
    let asked = query("example.com", RecordType::A);
    let first = rig.send(&asked);
    let (old, _) = rig.question();
    rig.wait(2);
    let second = rig.send(&asked);
    assert!(rig.desk.poll_question().is_none(), "there is time enough");
    rig.wait(1);
    let third = rig.send(&asked);
    let (new, _) = rig.question();
    assert_ne!(old, new);
    rig.wait(2);
    rig.desk.handle_timeout(rig.now);
    let failed = rig.answers();
    assert_eq!(failed.keys().copied().collect::<Vec<_>>(), [first, second]);
    let fourth = rig.send(&asked);
    assert!(rig.desk.poll_question().is_none(), "the later one is joined");
    rig.desk.handle_failure(new, rig.now);
    let failed = rig.answers();
    assert_eq!(failed.keys().copied().collect::<Vec<_>>(), [third, fourth]);
    assert_eq!(rig.desk.counters().in_flight, 0);
}
