//! Addresses of our own.

use super::*;

fn fake_of(rig: &mut Rig, text: &str, kind: RecordType) -> IpAddr {
    let answer = rig.ask(&query(text, kind));
    let addresses = addresses(&answer);
    assert_eq!(addresses.len(), 1, "{answer}");
    addresses[0]
}

#[test]
fn names_get_a_fake_address_of_each_family() {
    let mut rig = Rig::fake();
    let v4 = fake_of(&mut rig, "www.Example.com", RecordType::A);
    let v6 = fake_of(&mut rig, "www.example.COM", RecordType::AAAA);
    assert!(v4.is_ipv4() && v6.is_ipv6());
    assert_eq!(fake_of(&mut rig, "www.example.com", RecordType::A), v4);
    let expected = FakeName::Name("www.example.com".parse().expect("a name"));
    assert_eq!(rig.desk.fake_name(v4), expected);
    assert_eq!(rig.desk.fake_name(v6), expected);
    let counters = rig.desk.counters();
    assert_eq!((counters.fake_answers, counters.fake_names, counters.forwarded), (3, 1, 0));
}

#[test]
fn excluded_names_other_types_and_odd_names_are_forwarded() {
    let mut rig = Rig::fake();
    for asked in [
        query("printer.LAN", RecordType::A),
        query("lan", RecordType::AAAA),
        query("wpad", RecordType::A),
        query("ipv4only.arpa", RecordType::AAAA),
        query("example.com", RecordType::TXT),
        query("example.com", RecordType::HTTPS),
        query("example.com", RecordType::ANY),
        query(".", RecordType::A),
    ] {
        rig.assert_forwarded(&asked);
    }
    for label in [&b"a.b"[..], b"a b", b"\xFF", b"a:b"] {
        let mut asked = query("x", RecordType::A);
        asked.queries[0].set_name(Name::from_labels([label, b"example"]).expect("a name"));
        rig.assert_forwarded(&asked);
    }
    assert_eq!(rig.desk.counters().fake_names, 0);
    fake_of(&mut rig, "a.plan", RecordType::A);
}

#[test]
fn no_way_round_a_fake_address_is_told() {
    let mut rig = Rig::fake();
    let asked = query("example.com", RecordType::HTTPS);
    let say = |answer: &mut Message| {
        answer.add_answer(forwarding::https("example.com"));
        answer.add_additional(a("example.com", 60));
        answer.add_additional(aaaa("example.com", 60));
        answer.metadata.authentic_data = true;
    };
    let mut asked_for_ad = asked.clone();
    asked_for_ad.metadata.authentic_data = true;
    let answer = rig.resolve(&asked_for_ad, say);
    let RData::HTTPS(https) = &answer.answers[0].data else { panic!("{answer}") };
    let mandatory = SvcParamValue::Mandatory(Mandatory(vec![SvcParamKey::Port]));
    let left = [(SvcParamKey::Mandatory, mandatory), (SvcParamKey::Port, SvcParamValue::Port(8443))];
    assert_eq!(https.svc_params, left);
    assert!(answer.additionals.is_empty() && !answer.authentic_data);
    assert_eq!(rig.ask(&asked).answers, answer.answers, "nor from the cache");

    let excluded = rig.resolve(&query("example.lan", RecordType::HTTPS), |answer| {
        answer.add_answer(forwarding::https("example.lan"));
    });
    assert_eq!(excluded.answers, [forwarding::https("example.lan")]);

    let any = rig.resolve(&query("example.com", RecordType::ANY), |answer| {
        answer.add_answer(a("example.com", 60));
        answer.add_answer(record("example.com", 60, RData::TXT(TXT::new(vec!["text".to_owned()]))));
    });
    let kinds: Vec<_> = any.answers.iter().map(Record::record_type).collect();
    assert_eq!(kinds, [RecordType::TXT]);
}

#[test]
fn a_service_record_that_cannot_be_read_is_not_passed_on() {
    let mut rig = Rig::fake();
    let answer = rig.resolve(&query("example.com", RecordType::HTTPS), |answer| {
        let rdata = hickory_proto::rr::rdata::NULL::with(vec![0, 1, 0, 0, 4, 0, 9, 1]);
        answer.add_answer(record("example.com", 60, RData::Unknown { code: RecordType::HTTPS, rdata }));
    });
    assert_eq!(answer.response_code, ResponseCode::ServFail);
}

#[test]
fn fake_addresses_are_looked_up_backwards() {
    let mut rig = Rig::fake();
    for kind in [RecordType::A, RecordType::AAAA] {
        let address = fake_of(&mut rig, "www.example.com", kind);
        let mut asked = query("x", RecordType::PTR);
        asked.queries[0].set_name(Name::from(address));
        let answer = rig.ask(&asked);
        let RData::PTR(pointer) = &answer.answers[0].data else { panic!("{answer}") };
        assert_eq!(pointer.0, name("www.example.com"));
        assert_eq!(answer.answers[0].name, Name::from(address));
    }
    let answer = rig.ask(&query("0.0.18.198.in-addr.arpa", RecordType::PTR));
    assert_eq!(answer.response_code, ResponseCode::NXDomain);
    assert_eq!(answer.authorities.len(), 1);
    for text in ["1.1.1.1.in-addr.arpa", "18.198.in-addr.arpa", "example.com", "x.in-addr.arpa"] {
        rig.assert_forwarded(&query(text, RecordType::PTR));
    }
}

#[test]
fn fake_names_outlive_new_options() {
    let mut rig = Rig::fake();
    let address = fake_of(&mut rig, "example.com", RecordType::A);
    let name = FakeName::Name("example.com".parse().expect("a name"));
    for mode in [DnsMode::Forward, DnsMode::FakeIp] {
        rig.desk.set_options(options(mode, DnsStrategy::AsAsked));
        assert_eq!(rig.desk.fake_name(address), name);
    }
    assert_eq!(fake_of(&mut rig, "example.com", RecordType::A), address);
}

#[test]
fn without_fake_names_no_address_is_fake() {
    let address = IpAddr::from([198, 18, 0, 77]);
    assert_eq!(Rig::forward().desk.fake_name(address), FakeName::NotFake);
    assert_eq!(Rig::fake().desk.fake_name(address), FakeName::Forgotten);
    let asked = query("77.0.18.198.in-addr.arpa", RecordType::PTR);
    Rig::forward().assert_forwarded(&asked);
}

#[test]
fn a_single_family_is_faked_alone() {
    let mut rig = Rig::new(DnsMode::FakeIp, DnsStrategy::Ipv4Only);
    fake_of(&mut rig, "example.com", RecordType::A);
    assert!(is_nodata(&rig.ask(&query("example.com", RecordType::AAAA))));
    let mut rig = Rig::new(DnsMode::FakeIp, DnsStrategy::PreferIpv4);
    fake_of(&mut rig, "example.com", RecordType::AAAA);
}
