//! Many questions at once, and a server that answers none.

use std::collections::HashSet;

use hickory_proto::op::ResponseCode;
use serde_json::json;

use crate::fake_names::is_fake;
use crate::support::asker::{Reply, burst};
use crate::support::dig::dig;
use crate::support::lab::SERVERS;
use crate::support::resolver::BURST;
use crate::{APPS_RESOLVERS, EMBEDDED, World, apps_resolver};

/// What equal bursts may differ by: the allocator's whims.
const GROWTH: u64 = 4 << 20;

#[test]
fn ten_thousand_questions_in_a_burst_are_all_answered_without_growth() {
    const COUNT: usize = 10_000;
    for (mode, (name, start)) in [("forward", SERVERS[0]), ("forward", EMBEDDED), ("fake_ip", EMBEDDED)] {
        let Some(world) = World::new(start) else { continue };
        println!("{mode} against {name}");
        let program = world.run(json!({ "mode": mode }));
        let mut resident = Vec::new();
        // New names each time, except where many more than these are remembered on purpose.
        let suffixes = if mode == "forward" { ["first", "second", "third"] } else { ["same"; 3] };
        for suffix in suffixes.map(|label| format!("{label}.burst.test")) {
            let replies = burst(&world.lab.client, apps_resolver(), &suffix, COUNT);
            if mode == "forward" {
                let good = Reply { code: ResponseCode::NoError, address: Some(BURST.parse().unwrap()) };
                assert!(replies.iter().all(|reply| *reply == good), "{:?}", other_than(&replies, &good));
            } else {
                assert!(replies.iter().all(|reply| reply.address.is_some_and(is_fake)));
                let last: HashSet<_> = replies[COUNT - 100..].iter().map(|reply| reply.address).collect();
                assert_eq!(last.len(), 100, "each its own");
            }
            resident.push(program.resident_bytes());
        }
        println!("{mode}: {resident:?} bytes resident after each burst");
        assert!(resident[2] < resident[0] + GROWTH, "{resident:?}");
        assert_eq!(world.resolver.was_asked("burst.test"), mode == "forward");
    }
}

#[test]
fn every_question_is_answered_when_the_server_is_dead() {
    for (name, start) in [SERVERS[0], EMBEDDED] {
        let Some(world) = World::new(start) else { continue };
        println!("against {name}");
        let _program = world.run(json!({}));
        assert_eq!(world.dig(&["host.test"]).only(), "203.0.113.9");
        let World { lab, resolver: _resolver, server } = world;
        drop(server);
        let failed = Reply { code: ResponseCode::ServFail, address: None };
        let replies = burst(&lab.client, apps_resolver(), "burst.test", 200);
        assert!(replies.iter().all(|reply| *reply == failed), "{:?}", other_than(&replies, &failed));
        for transport in ["+notcp", "+tcp"] {
            let answer = dig(&lab.client, APPS_RESOLVERS[0], &[transport, "v4only.test"]);
            assert_eq!(answer.status, "SERVFAIL");
        }
    }
}

fn other_than<'a>(replies: &'a [Reply], expected: &Reply) -> Option<(usize, &'a Reply)> {
    replies.iter().enumerate().find(|(_, reply)| *reply != expected)
}
