use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;

fn parse(text: &str) -> Result<Scheme, SchemeError> {
    Scheme::parse(text.as_bytes())
}

fn scheme(text: &str) -> Scheme {
    parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

/// The plan of write 1 when its line says `line`; `c` is `(0, 0)`.
fn plan(line: &str) -> Vec<(u16, u16)> {
    let scheme = scheme(&format!("stop=2\n1={line}"));
    let Some(Plan(entries)) = scheme.plan(1) else { return Vec::new() };
    entries
        .iter()
        .map(|entry| match entry {
            Entry::Check => (0, 0),
            Entry::Size(range) => (range.min.get(), range.max),
        })
        .collect()
}

/// How a scheme whose third line is `line` fares.
fn fate(line: &str) -> Option<SchemeError> {
    parse(&format!("stop=8\n0=30-30\n{line}\n4=500-1000")).err()
}

#[test]
fn default_scheme_is_the_reference_s() {
    let scheme = Scheme::default_scheme();
    // printf '…' | md5sum, over the text of protocol.md without a last line break
    assert_eq!(scheme.md5_hex(), "75cff2ad89aadf5e257059ee571ebe11");
    assert!(scheme.raw().starts_with("stop=8\n0=30-30\n") && scheme.raw().ends_with("\n7=500-1000"));
    assert!(scheme.shapes(0) && scheme.shapes(7) && !scheme.shapes(8));
    let planned: Vec<u32> = (0..20).filter(|write| scheme.plan(*write).is_some()).collect();
    assert_eq!(planned, [1, 2, 3, 4, 5, 6, 7]);
    let mut rng = StdRng::seed_from_u64(1);
    assert_eq!(scheme.authentication_padding(&mut rng), 30);
}

#[test]
fn text_is_kept_byte_for_byte() {
    let text = "stop=1\n# a comment\n\n1=\u{fc}\r\n";
    assert_eq!(scheme(text).raw(), text);
    // printf 'stop=1\n# a comment\n\n1=ü\r\n' | md5sum
    assert_eq!(scheme(text).md5_hex(), "b22c1bb715aaedcf52bf389f9bb3f7d2");
}

#[test]
fn entries_keep_their_order() {
    assert_eq!(plan("400-500,c,9-9,c,c,1-16377"), [(400, 500), (0, 0), (9, 9), (0, 0), (0, 0), (1, 16_377)]);
}

#[test]
fn reversed_bounds_are_swapped() {
    assert_eq!(plan("500-100"), [(100, 500)]);
    assert_eq!(plan("+500-+100"), [(100, 500)]);
}

#[test]
fn what_the_reference_skips_is_skipped() {
    let skipped = [
        "", "30", "a-b", "1-", "-1", "1-2-3", "-5-10", "5--10", "0-0", "1-99999x", "++1-2", "+-2", "0-100",
        "100-0", " 1-2", "1-2\r", "C", " c",
    ];
    for entry in skipped {
        assert_eq!(plan(entry), [], "{entry:?}");
        assert_eq!(plan(&format!("7-7,{entry},8-8")), [(7, 7), (8, 8)], "{entry:?}");
    }
}

#[test]
fn lines_about_nothing_known_are_passed_over() {
    let scheme = scheme("\nnonsense\n=1-1\nStop=1\nstop=3\n02=99999-99999\n+1=99999-99999\n1 =c\n-1=c\n9x=c");
    assert!(scheme.shapes(2) && !scheme.shapes(3));
    assert!(scheme.plans.is_empty());
}

#[test]
fn last_of_duplicate_keys_wins() {
    let scheme = scheme("stop=1\n1=100-100\n1=99999-99999\n1=200-200\nstop=2");
    assert_eq!(scheme.stop, 2);
    assert_eq!(scheme.plans.len(), 1);
    assert_eq!(plan("1-1\n1=200-200"), [(200, 200)]);
    assert_eq!(plan("1-1\n1="), []);
}

#[test]
fn lines_from_stop_on_are_not_kept_but_checked() {
    assert_eq!(scheme("stop=2\n1=1-1\n2=1-1\n4000000000=1-1").plans.len(), 1);
    assert_eq!(parse("stop=2\n3=1-16378"), Err(SchemeError::SizeTooLarge { line: 2 }));
}

#[test]
fn scheme_without_a_readable_stop_is_refused() {
    for text in ["", "0=30-30", "\n\n", "Stop=8", " stop=8"] {
        assert_eq!(parse(text), Err(SchemeError::StopMissing), "{text:?}");
    }
    for text in ["stop=", "stop=x", "stop=8\r\n", "stop= 8", "stop=-1", "stop=8\nstop=eight"] {
        assert!(matches!(parse(text), Err(SchemeError::StopUnreadable { .. })), "{text:?}");
    }
}

#[test]
fn stop_goes_up_to_10000() {
    assert!(scheme("stop=10000").shapes(9_999));
    for stop in ["10001", "65536", "4294967296", "99999999999999999999999"] {
        assert_eq!(parse(&format!("\nstop={stop}")), Err(SchemeError::StopTooHigh { line: 2 }), "{stop}");
    }
}

#[test]
fn scheme_may_shape_nothing() {
    let scheme = scheme("stop=0\n0=30-30\n1=1-1");
    assert!(!scheme.shapes(0));
    assert_eq!(scheme.plan(1), None);
    // The reference draws padding0 whatever stop says.
    assert_eq!(scheme.authentication_padding(&mut StdRng::seed_from_u64(1)), 30);
}

#[test]
fn sizes_above_16377_are_refused_whole() {
    assert_eq!(fate("1=16377-16377"), None);
    let too_large = [
        "16378-16378",
        "1-16378",
        "16378-1",
        "0-16378",
        "100-65536",
        "4000000000-4000000000",
        "1-4000000000",
        "9223372036854775808-1",
        "99999999999999999999-99999999999999999999",
    ];
    for entry in too_large {
        assert_eq!(fate(&format!("1={entry}")), Some(SchemeError::SizeTooLarge { line: 3 }), "{entry}");
        assert_eq!(
            fate(&format!("7=c,1-1,{entry},c")),
            Some(SchemeError::SizeTooLarge { line: 3 }),
            "{entry}"
        );
    }
}

#[test]
fn padding0_goes_up_to_16350() {
    let mut rng = StdRng::seed_from_u64(1);
    assert_eq!(scheme("stop=1\n0=16350-16350").authentication_padding(&mut rng), 16_350);
    let error = Some(SchemeError::Padding0TooLarge { line: 3 });
    assert_eq!(fate("0=16351-16351"), error);
    assert_eq!(fate("0=1-16351"), error);
    assert_eq!(fate("0=x,16377-16377"), error);
    assert_eq!(fate("0=65535-65535"), Some(SchemeError::SizeTooLarge { line: 3 }));
}

#[test]
fn check_mark_in_place_of_padding0_is_refused() {
    for line in ["0=c", "0=c,30-30", "0=,x,0-0,c,30-30"] {
        assert_eq!(fate(line), Some(SchemeError::Padding0IsCheckMark { line: 3 }), "{line}");
    }
    assert_eq!(fate("0=30-30,c"), None);
}

#[test]
fn padding0_is_none_when_its_line_gives_no_size() {
    let mut rng = StdRng::seed_from_u64(1);
    for text in ["stop=8", "stop=8\n0=", "stop=8\n0=0-100", "stop=8\n0=30"] {
        assert_eq!(scheme(text).authentication_padding(&mut rng), 0, "{text:?}");
    }
    assert_eq!(scheme("stop=8\n0=0-0,7-7,9-9").authentication_padding(&mut rng), 7);
}

#[test]
fn line_has_at_most_256_entries() {
    let line = |entries: usize| format!("1={}", vec!["c"; entries].join(","));
    assert_eq!(fate(&line(256)), None);
    assert_eq!(fate(&line(257)), Some(SchemeError::TooManyEntries { line: 3, entries: 257 }));
    let long = format!("1={}", vec!["1-1"; 15_000].join(","));
    assert_eq!(fate(&long), Some(SchemeError::TooManyEntries { line: 3, entries: 15_000 }));
    let skipped = format!("1={}", ",".repeat(256));
    assert_eq!(fate(&skipped), Some(SchemeError::TooManyEntries { line: 3, entries: 257 }));
}

#[test]
fn line_pads_at_most_256_kib() {
    let line = |sizes: usize| format!("1={}", vec!["16377-16377"; sizes].join(","));
    assert_eq!(fate(&line(16)), None); // 16 × (7 + 16 377) = 262 144
    assert_eq!(fate(&line(17)), Some(SchemeError::TooMuchPadding { line: 3 }));
    assert_eq!(fate(&format!("{},1-1", line(16))), Some(SchemeError::TooMuchPadding { line: 3 }));
}

#[test]
fn padding_is_counted_from_one_check_mark_to_the_next() {
    let cut_short = format!("1={}", vec!["16377-16377,c"; 100].join(","));
    assert_eq!(fate(&cut_short), None);
    let run = format!("1=c,{}", vec!["16000-1"; 17].join(","));
    assert_eq!(fate(&run), Some(SchemeError::TooMuchPadding { line: 3 }));
}

#[test]
fn text_is_utf8_of_at_most_64_kib() {
    assert_eq!(Scheme::parse(b"stop=8\n\n1=\xFF"), Err(SchemeError::NotUtf8 { line: 3 }));
    let fill = |bytes: usize| format!("stop=8\n{}", "#".repeat(bytes - 7));
    assert_eq!(parse(&fill(65_536)).map(|scheme| scheme.raw().len()), Ok(65_536));
    assert_eq!(parse(&fill(65_537)), Err(SchemeError::TextTooLong(65_537)));
}

#[test]
fn only_lines_that_are_there_take_memory() {
    let scheme = scheme("stop=10000\n9999=1-1\n5=c\n6=");
    assert_eq!(scheme.plans.len(), 2);
    assert!(scheme.plan(9_999).is_some() && scheme.plan(9_998).is_none());
    assert_eq!(size_of::<Entry>(), 4, "32 768 of them at most, in 64 KiB of text");
}

#[test]
fn errors_say_which_line_and_rule() {
    let error = fate("1=4000000000-4000000000").expect("too large");
    assert_eq!(error.to_string(), "line 3: a size is above 16377");
}

/// Draws `count` times from `min-max` and counts how often each value came.
fn drawn(min: u16, max: u16, count: usize) -> BTreeMap<u16, usize> {
    let range = parse_range(1, &format!("{min}-{max}")).expect("within the limits").expect("a size");
    let mut rng = StdRng::seed_from_u64(0x5EED);
    let mut counts = BTreeMap::new();
    for _ in 0..count {
        *counts.entry(range.draw(&mut rng)).or_default() += 1;
    }
    counts
}

#[test]
fn equal_bounds_are_the_size() {
    assert_eq!(drawn(9, 9, 100), BTreeMap::from([(9, 100)]));
}

#[test]
fn upper_bound_itself_is_never_drawn() {
    assert_eq!(drawn(9, 10, 100), BTreeMap::from([(9, 100)]));
    let counts = drawn(100, 400, 100_000);
    assert_eq!(counts.first_key_value().map(|(size, _)| *size), Some(100));
    assert_eq!(counts.last_key_value().map(|(size, _)| *size), Some(399));
}

#[test]
fn sizes_are_spread_evenly() {
    const EACH: usize = 1_000;
    let counts = drawn(100, 400, 300 * EACH);
    assert_eq!(counts.len(), 300);
    let expected = EACH as f64; // small
    let chi_square: f64 = counts.values().map(|count| (*count as f64 - expected).powi(2) / expected).sum();
    // 299 degrees of freedom: mean 299, standard deviation 24.5; five of them to each side. A
    // generator that is too even fails as one that is too uneven does.
    assert!((176.0..422.0).contains(&chi_square), "chi square {chi_square} with seed 0x5EED");
}

/// Schemes in the right form, most of them within the limits.
fn text() -> impl Strategy<Value = String> {
    let size = prop_oneof![20 => 0_u32..16_351, 1 => 16_350_u32..16_380];
    let entry = prop_oneof![
        1 => Just("c".to_owned()),
        4 => (size.clone(), size).prop_map(|(a, b)| format!("{a}-{b}")),
    ];
    let line = (0_u32..12, prop::collection::vec(entry, 0..6))
        .prop_map(|(write, entries)| format!("{write}={}\n", entries.join(",")));
    (0_u32..12, prop::collection::vec(line, 0..6))
        .prop_map(|(stop, lines)| format!("{}stop={stop}", lines.concat()))
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(text in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Scheme::parse(&text);
    }

    #[test]
    fn whatever_is_accepted_keeps_to_the_limits(text in text(), seed: u64) {
        let Ok(scheme) = parse(&text) else { return Ok(()) };
        let mut rng = StdRng::seed_from_u64(seed);
        prop_assert!(scheme.stop <= MAX_STOP);
        prop_assert!(scheme.authentication_padding(&mut rng) <= MAX_PADDING0);
        for (write, plan) in &scheme.plans {
            prop_assert!(*write > 0 && scheme.shapes(*write));
            for entry in plan.0.iter() {
                if let Entry::Size(range) = entry {
                    let size = range.draw(&mut rng);
                    prop_assert!((1..=MAX_SIZE).contains(&size));
                    prop_assert!((range.min.get()..=range.max).contains(&size));
                }
            }
        }
    }
}
