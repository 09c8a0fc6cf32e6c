//! What is remembered of the resolver's answers, and for how long.

use super::*;

/// Whether the same question is answered from the cache `seconds` later.
fn is_kept(seconds: u64, say: impl Fn(&mut Message)) -> bool {
    let mut rig = Rig::forward();
    let asked = query("example.com", RecordType::A);
    rig.resolve(&asked, say);
    rig.wait(seconds);
    rig.send(&asked);
    rig.desk.poll_answer().is_some()
}

#[test]
fn an_answer_is_kept_for_the_least_of_its_ttls() {
    let say = |answer: &mut Message| {
        answer.add_answer(record("example.com", 500, RData::CNAME(CNAME(name("b.example")))));
        answer.add_answer(a("b.example", 300));
        answer.add_authority(record("example", 400, RData::CNAME(CNAME(name("c.example")))));
        answer.add_additional(a("c.example", 100));
    };
    assert!(is_kept(299, say));
    assert!(!is_kept(300, say));
    let say = |answer: &mut Message| {
        answer.add_answer(a("example.com", 300));
        answer.add_authority(soa("com", 200, 5));
    };
    assert!(is_kept(199, say));
    assert!(!is_kept(200, say));
}

#[test]
fn ttls_count_down() {
    let mut rig = Rig::forward();
    let asked = query("example.com", RecordType::A);
    rig.resolve(&asked, |answer| {
        answer.add_answer(a("example.com", 300));
        answer.add_authority(soa("com", 600, 5));
        answer.add_additional(a("ns.example", 100));
    });
    rig.wait(120);
    rig.now = rig.now + Duration::from_millis(900);
    let answer = rig.ask(&with_edns(query("Example.com", RecordType::A), 4096, false));
    let ttls: Vec<u32> = answer.all_sections().map(|record| record.ttl).collect();
    assert_eq!(ttls, [180, 480, 0]);
    assert_eq!(addresses(&answer), [IpAddr::from([192, 0, 2, 1])]);
    assert_eq!(rig.desk.counters().cache_hits, 1);
}

#[test]
fn a_day_is_the_longest() {
    let say = |answer: &mut Message| _ = answer.add_answer(a("example.com", 1_000_000));
    assert!(is_kept(86_399, say));
    assert!(!is_kept(86_400, say));
    let answer = Rig::forward().resolve(&query("example.com", RecordType::A), say);
    assert_eq!(answer.answers[0].ttl, 86_400);
}

#[test]
fn what_may_not_be_kept_is_not() {
    assert!(is_kept(0, |answer| _ = answer.add_answer(a("example.com", 1))));
    assert!(!is_kept(0, |answer| _ = answer.add_answer(a("example.com", 0))));
    assert!(!is_kept(0, |answer| _ = answer.add_answer(a("example.com", 0x8000_0001))), "RFC 2181");
    assert!(!is_kept(0, |answer| {
        answer.add_answer(a("example.com", 60));
        answer.metadata.truncation = true;
    }));
    for code in [ResponseCode::ServFail, ResponseCode::Refused, ResponseCode::NotImp] {
        assert!(!is_kept(0, |answer| {
            answer.metadata.response_code = code;
            answer.add_answer(a("example.com", 60));
            answer.add_authority(soa("com", 60, 60));
        }));
        let answer = Rig::forward()
            .resolve(&query("example.com", RecordType::A), |answer| answer.metadata.response_code = code);
        assert_eq!(answer.response_code, code, "but passed on");
    }
}

#[test]
fn that_there_is_nothing_is_kept_as_long_as_the_zone_says() {
    for code in [ResponseCode::NXDomain, ResponseCode::NoError] {
        for (ttl, minimum, kept) in [(600, 60, 60), (60, 600, 60), (100_000, 100_000, 10_800), (60, 0, 0)] {
            let say = |answer: &mut Message| {
                answer.metadata.response_code = code;
                answer.add_answer(record("example.com", 90_000, RData::CNAME(CNAME(name("b.example")))));
                answer.add_authority(soa("example", ttl, minimum));
            };
            assert_eq!(is_kept(kept.max(1) - 1, say), kept > 0, "{code} {ttl} {minimum}");
            assert!(!is_kept(kept, say), "{code} {ttl} {minimum}");
            let answer = Rig::forward().resolve(&query("example.com", RecordType::A), say);
            assert_eq!(u64::from(answer.authorities[0].ttl), kept, "{code} {ttl} {minimum}");
            assert_eq!(answer.response_code, code);
        }
        assert!(!is_kept(0, |answer| answer.metadata.response_code = code), "no SOA");
    }
}

#[test]
fn the_cache_goes_with_new_options_and_when_told() {
    let asked = query("example.com", RecordType::A);
    for clear in [
        |rig: &mut Rig| rig.desk.clear_cache(),
        |rig: &mut Rig| {
            rig.desk.set_options(options(DnsMode::Forward, DnsStrategy::AsAsked));
        },
    ] {
        let mut rig = Rig::forward();
        rig.resolve(&asked, |answer| _ = answer.add_answer(a("example.com", 60)));
        assert!(rig.desk.counters().cache_bytes > 0);
        clear(&mut rig);
        let counters = rig.desk.counters();
        assert_eq!((counters.cache_bytes, counters.cache_entries), (0, 0));
        rig.assert_forwarded(&asked);
    }
}

#[test]
fn answers_to_questions_of_former_options_are_passed_on_but_not_kept_nor_joined() {
    let asked = query("example.com", RecordType::A);
    let mut rig = Rig::forward();
    let before = rig.send(&asked);
    let (ticket, question) = rig.question();
    rig.desk.set_options(options(DnsMode::Forward, DnsStrategy::Ipv4Only));
    let after = rig.send(&asked);
    let answer = answer_to(&question, |answer| _ = answer.add_answer(a("example.com", 60)));
    rig.desk.handle_answer(ticket, &answer, rig.now);
    assert_eq!(addresses(&rig.answer_for(before)).len(), 1);
    assert_eq!(rig.desk.counters().cache_entries, 0);
    rig.say(|answer| _ = answer.add_answer(a("example.com", 60)));
    rig.answer_for(after);
    assert_eq!(rig.desk.counters().cache_entries, 1);
    assert_eq!(rig.desk.flights.bytes(), 0);
}

#[test]
fn the_cache_is_bounded_and_keeps_what_is_used() {
    let mut rig = Rig::forward();
    let busy = query("busy.example", RecordType::A);
    rig.resolve(&busy, |answer| _ = answer.add_answer(a("busy.example", 80_000)));
    for number in 0..5_000 {
        let text = format!("{number}.example");
        rig.resolve(&query(&text, RecordType::A), |answer| _ = answer.add_answer(a(&text, 80_000)));
        assert_eq!(addresses(&rig.ask(&busy)).len(), 1);
    }
    let counters = rig.desk.counters();
    assert!(counters.cache_bytes <= MEMORY * 5 / 8, "{counters:?}");
    assert!(counters.cache_entries > 500 && counters.cache_entries < 5_000, "{counters:?}");
}

#[test]
fn one_answer_does_not_empty_the_cache() {
    let options = DeskOptions { memory_bytes: 512 << 10, ..options(DnsMode::Forward, DnsStrategy::AsAsked) };
    let mut rig = Rig::with(options);
    let large = |answer: &mut Message| {
        let text = TXT::new(vec!["x".repeat(250); 240]);
        answer.add_answer(record("large.example", 60, RData::TXT(text)));
    };
    let asked = query("large.example", RecordType::TXT);
    rig.resolve(&asked, large);
    assert_eq!(rig.desk.counters().cache_entries, 0, "60 kB of 320 KiB");
}

#[test]
fn questions_under_way_take_of_the_cache_but_not_all() {
    let mut rig = Rig::forward();
    for number in 0..5_000 {
        let text = format!("{number}.example");
        rig.resolve(&query(&text, RecordType::A), |answer| _ = answer.add_answer(a(&text, 80_000)));
    }
    let before = rig.desk.counters().cache_bytes;
    assert!(before > MEMORY / 2);
    for number in 0..5_000 {
        rig.send(&query(&format!("{number}.other.example"), RecordType::A));
        let DeskCounters { cache_bytes, held_bytes, .. } = rig.desk.counters();
        assert!(held_bytes <= MEMORY * 5 / 8 && cache_bytes > MEMORY / 9);
    }
    assert!(rig.desk.counters().cache_bytes < before);
}
