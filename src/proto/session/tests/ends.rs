//! How a session ends, and what that means for its password and its streams.

use super::*;

#[test]
fn a_web_servers_answer_means_a_refused_password() {
    let mut session = client();
    session.handle_input(b"HTTP/1.1 400 Bad Request\r\n\r\n", START);
    assert!(matches!(session.failure(), Some(SessionError::Rejected)));
}

#[test]
fn an_end_before_the_first_frame_means_a_refused_password_only_at_the_start() {
    let reset = || Err(io::Error::from(io::ErrorKind::ConnectionReset));
    let mut early = client();
    early.handle_end(reset(), START + Duration::from_millis(80));
    assert!(matches!(early.failure(), Some(SessionError::Rejected)));

    let mut late = client();
    late.handle_end(reset(), START + secs(300));
    assert!(matches!(late.failure(), Some(SessionError::Lost(_))));

    let mut served = client();
    served.handle_input(&frame(10, 0, b"v=2"), START);
    served.handle_end(Ok(()), START);
    assert!(matches!(served.failure(), Some(SessionError::EndedByPeer)));
}

#[test]
fn a_session_that_dies_is_a_failure_after_the_bytes_before_it_but_a_finished_stream_stays_clean() {
    let mut session = client();
    let open = session.open(&target(), b"", START).expect("open");
    let done = session.open(&target(), b"", START).expect("open");
    let input = [frame(2, 1, b"half"), frame(2, 2, b"whole"), frame(3, 2, b"")].concat();
    session.handle_input(&input, START);
    session.handle_end(Err(io::Error::from(io::ErrorKind::UnexpectedEof)), START);
    assert_eq!(read_all(&mut session, open), b"half");
    assert!(session.read_with(open, <[u8]>::len).is_err());
    assert_eq!(read_all(&mut session, done), b"whole");
    assert_eq!(session.read_with(done, <[u8]>::len).ok(), Some(Read::End));
}

#[test]
fn an_answer_that_came_before_the_end_of_the_session_counts() {
    let mut session = client();
    let answered = session.open(&target(), b"", START).expect("open");
    let unanswered = session.open(&target(), b"", START).expect("open");
    session.handle_input(&[frame(7, 1, b""), frame(2, 1, b"bytes")].concat(), START);
    session.handle_end(Err(io::ErrorKind::ConnectionReset.into()), START);
    assert_eq!(session.is_open(answered).ok(), Some(true), "a retry would do its work twice");
    assert_eq!(read_all(&mut session, answered), b"bytes");
    assert!(session.read_with(answered, <[u8]>::len).is_err());
    assert!(session.is_open(unanswered).is_err());
}

#[test]
fn an_end_within_a_frame_is_not_a_clean_end() {
    let mut session = client();
    session.handle_input(&frame(2, 1, b"data")[..9], START);
    session.handle_end(Ok(()), START);
    assert!(matches!(session.failure(), Some(SessionError::Violation(_))));
}
