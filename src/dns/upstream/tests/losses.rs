//! What becomes of questions when the connection does not answer them.

use super::super::queue::MAX_SENDS;
use super::*;
use crate::proto::session::StreamError;
use crate::transport::DialError;

#[tokio::test(start_paused = true)]
async fn a_server_that_closes_after_a_few_answers_answers_all_the_same() {
    for each in [1, 3, 7] {
        let (mut upstream, peers) = upstream();
        let server = serve_each(peers, each);
        upstream.ask_all(0..100);
        assert_eq!(upstream.events(100).await, (0..100).map(answered).collect::<Vec<_>>());
        let stats = stats(&upstream);
        drop(upstream);
        let (streams, served) = server.await.unwrap();
        assert!(streams <= 100_usize.div_ceil(each) + 1, "{streams} streams of {each}");
        assert!(served <= 100 + each);
        assert_eq!(stats.failed, 0);
        assert!(stats.retried < 400, "{stats:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_asked_once_more_on_a_fresh_stream_then_the_question_has_failed() {
    let (mut upstream, mut peers) = upstream();
    let start = tokio::time::Instant::now();
    upstream.ask_all(0..2);
    let events = tokio::spawn(async move {
        let events = upstream.events(2).await;
        (events, stats(&upstream))
    });
    let mut first = peers.recv().await.unwrap();
    assert!(!first.is_fresh);
    assert!(first.question().await.is_some());
    let mut second = peers.recv().await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_millis(2500));
    assert!(second.is_fresh);
    assert!(first.question().await.is_some());
    assert!(first.question().await.is_none(), "the first one is gone");
    assert!(second.question().await.is_some());
    let (events, stats) = events.await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(5));
    assert_eq!(events, [failed(0), failed(1)]);
    let expected = UpstreamStats { opened: 2, broken: 2, retried: 2, failed: 2, unusable: 0 };
    assert_eq!(stats, expected);
}

#[tokio::test(start_paused = true)]
async fn the_second_attempt_may_succeed() {
    let (mut upstream, mut peers) = upstream();
    upstream.ask_all(0..1);
    tokio::spawn(async move {
        let _silent = peers.recv().await.unwrap();
        peers.recv().await.unwrap().serve(2).await
    });
    assert_eq!(upstream.event().await, answered(0));
    upstream.ask_all(1..2);
    assert_eq!(upstream.event().await, answered(1));
}

#[tokio::test(start_paused = true)]
async fn a_question_is_not_sent_for_ever_to_a_server_that_leaves_it_out() {
    let (mut upstream, mut peers) = upstream();
    let server = tokio::spawn(async move {
        let mut left_out = 0;
        while let Some(mut peer) = peers.recv().await {
            while let Some(asked) = peer.question().await {
                if asked[2..] == question(0)[2..] {
                    left_out += 1;
                } else {
                    peer.answer(&asked).await;
                    break;
                }
            }
        }
        left_out
    });
    upstream.ask_all(0..1);
    for number in 1.. {
        upstream.ask_all(number..number + 1);
        let event = upstream.event().await;
        if event == failed(0) {
            break;
        }
        assert_eq!(event, answered(number));
        assert!(number < 50);
    }
    drop(upstream);
    assert!(server.await.unwrap() <= usize::from(MAX_SENDS));
}

#[tokio::test(start_paused = true)]
async fn a_slow_question_does_not_cost_the_stream_that_answers_others() {
    let (mut upstream, mut peers) = upstream();
    let server = tokio::spawn(async move {
        let mut peer = peers.recv().await.unwrap();
        let _slow = peer.question().await;
        while let Some(question) = peer.question().await {
            peer.answer(&question).await;
        }
        assert!(peers.recv().await.is_none(), "there was only one");
    });
    upstream.ask_all(0..1);
    for number in 1..9 {
        upstream.ask_all(number..number + 1);
        assert_eq!(upstream.event().await, answered(number));
        upstream.quiet(Duration::from_secs(1)).await;
    }
    assert!(upstream.questions.outstanding() == 0, "the desk has answered it long ago");
    drop(upstream);
    server.await.unwrap();
}

/// The server's word that the resolver cannot be reached.
fn refused() -> OpenError {
    OpenError::Stream(StreamError::Refused("connection refused".to_owned()))
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_does_not_open_is_tried_once_more_unless_there_is_no_network() {
    for (refusals, expected, left) in [
        (vec![refused()], answered(0), 0),
        (vec![OpenError::Dial(DialError::Authentication)], answered(0), 0),
        (vec![OpenError::Busy], answered(0), 0),
        (vec![OpenError::Busy, OpenError::Busy, OpenError::Busy], failed(0), 1),
        (vec![OpenError::Stopped], answered(0), 0), // another client has taken its place
        (vec![OpenError::Stopped, OpenError::Stopped, OpenError::Busy], failed(0), 1),
        (vec![OpenError::Offline, OpenError::Busy], failed(0), 1),
    ] {
        let (mut upstream, mut peers) = upstream();
        *upstream.opener.refusals.lock().unwrap() = refusals.into();
        tokio::spawn(async move {
            let peer = peers.recv().await.unwrap();
            assert!(!peer.is_fresh, "no session is in doubt");
            peer.serve(1).await
        });
        upstream.ask_all(0..1);
        assert_eq!(upstream.event().await, expected);
        assert_eq!(upstream.opener.refusals.lock().unwrap().len(), left);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_message_costs_the_stream() {
    let (mut upstream, mut peers) = upstream();
    tokio::spawn(async move {
        let mut peer = peers.recv().await.unwrap();
        peer.pipe.write_all(&[0, 1, 7]).await.unwrap();
        assert!(peer.question().await.is_some());
        assert!(peer.question().await.is_none());
        peers.recv().await.unwrap().serve(1).await
    });
    upstream.ask_all(0..1);
    assert_eq!(upstream.event().await, answered(0));
    assert_eq!(stats(&upstream).broken, 1);
}

#[tokio::test(start_paused = true)]
async fn only_a_stream_that_says_nothing_puts_its_session_in_doubt() {
    for (said, is_fresh) in [(&[0, 1, 7][..], false), (&[], true)] {
        let (mut upstream, mut peers) = upstream();
        let server = tokio::spawn(async move {
            let mut peer = peers.recv().await.unwrap();
            assert!(peer.question().await.is_some());
            peer.pipe.write_all(said).await.unwrap();
            drop(peer);
            let peer = peers.recv().await.unwrap();
            assert_eq!(peer.is_fresh, is_fresh, "{said:?}");
            peer.serve(1).await
        });
        upstream.ask_all(0..1);
        assert_eq!(upstream.event().await, answered(0));
        assert_eq!(server.await.unwrap(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_name_after_an_answer_puts_no_session_in_doubt() {
    let (mut upstream, mut peers) = upstream();
    let server = tokio::spawn(async move {
        let mut peer = peers.recv().await.unwrap();
        let question = peer.question().await.unwrap();
        peer.answer(&question).await;
        assert!(peer.question().await.is_some());
        let second = peers.recv().await.unwrap();
        assert!(!second.is_fresh);
        second.serve(1).await
    });
    for number in 0..2 {
        upstream.ask_all(number..number + 1);
        assert_eq!(upstream.event().await, answered(number));
    }
    assert_eq!(server.await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_resolver_that_ends_every_stream_costs_one_fresh_session_a_minute() {
    let (mut upstream, mut peers) = upstream();
    let server = tokio::spawn(async move {
        let (mut streams, mut fresh) = (0, 0);
        while let Some(peer) = peers.recv().await {
            streams += 1;
            fresh += usize::from(peer.is_fresh);
        }
        (streams, fresh)
    });
    for number in 0..1000 {
        upstream.ask_all(number..number + 1);
        assert_eq!(upstream.event().await, failed(number));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    drop(upstream);
    let (streams, fresh) = server.await.unwrap();
    assert_eq!(fresh, 2);
    // At 0, 1 and so on every 2 seconds, each time twice.
    assert!((98..=104).contains(&streams), "{streams}");
}

#[tokio::test(start_paused = true)]
async fn what_waits_behind_two_failures_fails_with_them_and_so_do_questions_for_a_second() {
    let (mut upstream, peers) = upstream();
    serve_each(peers, 4);
    *upstream.opener.refusals.lock().unwrap() = vec![refused(); 4].into();
    upstream.window = 1; // the others wait
    upstream.ask_all(0..3);
    assert_eq!(upstream.events(3).await, (0..3).map(failed).collect::<Vec<_>>());
    tokio::time::sleep(Duration::from_millis(999)).await;
    upstream.ask_all(3..4);
    assert_eq!(upstream.event().await, failed(3));
    assert_eq!(upstream.opener.refusals.lock().unwrap().len(), 2, "it was not tried");
    tokio::time::sleep(Duration::from_millis(1)).await;
    upstream.ask_all(4..5);
    assert_eq!(upstream.event().await, failed(4));
    tokio::time::sleep(Duration::from_millis(1999)).await;
    upstream.ask_all(5..6);
    assert_eq!(upstream.event().await, failed(5), "the second rest is longer");
    tokio::time::sleep(Duration::from_millis(1)).await;
    upstream.ask_all(6..7);
    assert_eq!(upstream.event().await, answered(6));
    upstream.quiet(Duration::from_secs(60)).await;
    *upstream.opener.refusals.lock().unwrap() = vec![refused(); 2].into();
    upstream.ask_all(7..8);
    assert_eq!(upstream.event().await, failed(7));
    tokio::time::sleep(Duration::from_secs(1)).await;
    upstream.ask_all(8..9);
    assert_eq!(upstream.event().await, answered(8), "the answer has made it short again");
}

#[tokio::test(start_paused = true)]
async fn another_path_or_resolver_ends_the_rest() {
    let other = || Server { target: "192.0.2.54:53".parse().unwrap(), way: Way::Tcp };
    let changes: [fn(&mut Upstream<Pipes>, Server); 2] =
        [|upstream, _| upstream.handle_path_change(), Upstream::set_server];
    for change in changes {
        let (mut upstream, peers) = upstream();
        serve_each(peers, 1);
        *upstream.opener.refusals.lock().unwrap() = vec![refused(); 2].into();
        upstream.ask_all(0..1);
        assert_eq!(upstream.event().await, failed(0));
        change(&mut upstream, other());
        upstream.ask_all(1..2);
        assert_eq!(upstream.event().await, answered(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_that_is_not_there_is_no_reason_to_rest() {
    for why in [OpenError::Offline, OpenError::Busy, OpenError::Dial(DialError::Authentication)] {
        let (mut upstream, peers) = upstream();
        serve_each(peers, 1);
        let is_final = matches!(why, OpenError::Offline);
        *upstream.opener.refusals.lock().unwrap() = vec![why; if is_final { 1 } else { 2 }].into();
        upstream.ask_all(0..1);
        assert_eq!(upstream.event().await, failed(0));
        upstream.ask_all(1..2);
        assert_eq!(upstream.event().await, answered(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_name_makes_no_other_fail() {
    let (mut upstream, mut peers) = upstream();
    let server = tokio::spawn(async move {
        let mut streams = Vec::new();
        let mut held = Vec::new();
        while let Some(mut peer) = peers.recv().await {
            streams.push(peer.is_fresh);
            while let Ok(Some(asked)) = tokio::time::timeout(Duration::from_secs(2), peer.question()).await {
                if asked[2..] == question(1)[2..] {
                    peer.answer(&asked).await;
                }
            }
            held.push(peer); // open, and silent
        }
        streams
    });
    upstream.ask_all(0..1);
    assert_eq!(upstream.event().await, failed(0));
    upstream.ask_all(0..1);
    upstream.quiet(Duration::from_millis(2500)).await;
    upstream.ask_all(1..2);
    assert_eq!(upstream.event().await, answered(1));
    drop(upstream);
    assert_eq!(server.await.unwrap(), [false, true, false, false], "one fresh session is enough");
}

/// Takes each stream that is opened and answers so many questions on it; gives how many there were.
fn serve_each(mut peers: mpsc::Receiver<Peer>, count: usize) -> JoinHandle<(usize, usize)> {
    tokio::spawn(async move {
        let (mut streams, mut served) = (0, 0);
        while let Some(peer) = peers.recv().await {
            assert!(!peer.is_fresh);
            streams += 1;
            served += peer.serve(count).await;
        }
        (streams, served)
    })
}
