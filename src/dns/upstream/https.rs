//! DNS over HTTPS (RFC 8484), over HTTP/2.

use std::collections::HashMap;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::Reason;
use h2::client::SendRequest;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use http::{Method, Request, StatusCode, Uri};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};

use super::MAX_OUTSTANDING;
use super::connection::{Answer, Connection, Lost, NoAnswer, Serial};
use crate::task::Tasks;

const DNS_MESSAGE: &str = "application/dns-message";

/// The longest DNS message; a body beyond it is no answer.
const MAX_MESSAGE_BYTES: usize = 65_535;

/// What the headers of one response may take: a server has little to say beside the answer.
const MAX_HEADER_BYTES: u32 = 16 * 1024;

/// Requests at once. RFC 9113, section 6.5.2 advises servers to take no fewer, and the usual ones take as many.
/// Before theirs says so, h2 would send any number; those beyond what it takes would come back refused.
const MAX_REQUESTS: usize = 100;

/// An HTTP/2 connection; a task drives it, and one waits for each answer. All end when it is dropped.
pub(super) struct Https {
    requests: SendRequest<Bytes>,
    uri: Uri,
    /// Dropping the sender gives the request up.
    waiting: HashMap<Serial, oneshot::Sender<()>>,
    report: mpsc::Sender<Result<Answer, Lost>>,
    reports: mpsc::Receiver<Result<Answer, Lost>>,
    tasks: Tasks,
}

impl Https {
    /// Begins HTTP/2 on a TLS stream that has agreed on it.
    pub(super) async fn begin<S>(stream: S, uri: Uri) -> Result<Self, h2::Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = h2::client::Builder::new();
        builder
            .enable_push(false)
            .max_header_list_size(MAX_HEADER_BYTES)
            .initial_max_send_streams(MAX_REQUESTS);
        let (requests, connection) = builder.handshake(stream).await?;
        let (report, reports) = mpsc::channel(MAX_OUTSTANDING);
        let tasks = Tasks::new();
        let end = report.clone();
        tasks.spawn("dns https", async move {
            let lost = connection.await.err().map_or(Lost::Ended, Lost::Http);
            let _nobody_waits_any_more = end.send(Err(lost)).await;
        });
        Ok(Self { requests, uri, waiting: HashMap::new(), report, reports, tasks })
    }
}

impl Connection for Https {
    fn has_room(&self) -> bool {
        self.waiting.len() < MAX_REQUESTS
    }

    fn send(&mut self, serial: Serial, question: &[u8]) {
        let mut question = question.to_vec();
        if let Some(id) = question.first_chunk_mut() {
            *id = [0; 2]; // RFC 8484, section 4.1: so that caches on the way see the same question
        }
        let (waits, mut given_up) = oneshot::channel();
        self.waiting.insert(serial, waits);
        let (requests, uri, report) = (self.requests.clone(), self.uri.clone(), self.report.clone());
        self.tasks.spawn("dns https request", async move {
            let answer = tokio::select! {
                answer = ask(requests, uri, question) => answer,
                _ = &mut given_up => return,
            };
            let answer = match answer {
                Ok(message) => Ok(Answer { serial, message: Ok(message) }),
                Err(Failure::Answer(why)) => Ok(Answer { serial, message: Err(why) }),
                Err(Failure::Connection(error)) => Err(Lost::Http(error)),
            };
            let _nobody_waits_any_more = report.send(answer).await;
        });
    }

    fn forget(&mut self, serial: Serial) {
        self.waiting.remove(&serial);
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer, Lost>> {
        let report = self.reports.poll_recv(cx).map(|report| report.unwrap_or(Err(Lost::Ended)));
        if let Poll::Ready(Ok(answer)) = &report {
            self.waiting.remove(&answer.serial);
        }
        report
    }
}

/// Why a question has no answer.
enum Failure {
    /// It is this question's.
    Answer(NoAnswer),
    /// It is every question's.
    Connection(h2::Error),
}

impl From<NoAnswer> for Failure {
    fn from(why: NoAnswer) -> Self {
        Self::Answer(why)
    }
}

impl From<h2::Error> for Failure {
    fn from(error: h2::Error) -> Self {
        if !error.is_reset() {
            return Self::Connection(error);
        }
        Self::Answer(match error.reason() {
            Some(Reason::REFUSED_STREAM) => NoAnswer::NotTaken, // RFC 9113, section 8.7: it was not processed
            _ => NoAnswer::NotNow("stream reset"),
        })
    }
}

async fn ask(requests: SendRequest<Bytes>, uri: Uri, question: Vec<u8>) -> Result<Vec<u8>, Failure> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(uri)
        .header(ACCEPT, DNS_MESSAGE)
        .header(CONTENT_TYPE, DNS_MESSAGE)
        .header(CONTENT_LENGTH, question.len())
        .body(())
        .map_err(|_| NoAnswer::Never("no request can be made"))?;
    let mut requests = requests.ready().await?;
    let (response, mut body) = requests.send_request(request, false)?;
    body.send_data(Bytes::from(question), true)?;
    let response = response.await?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::TOO_MANY_REQUESTS => return Err(NoAnswer::NotNow("status is 429").into()),
        status if status.is_server_error() => return Err(NoAnswer::NotNow("status is 5xx").into()),
        _ => return Err(NoAnswer::Never("status is not 200").into()),
    }
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = content_type.and_then(|value| value.split(';').next()).map(str::trim);
    if !media_type.is_some_and(|media_type| media_type.eq_ignore_ascii_case(DNS_MESSAGE)) {
        return Err(NoAnswer::Never("not a DNS message").into());
    }
    let mut body = response.into_body();
    let mut message = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        if message.len() + piece.len() > MAX_MESSAGE_BYTES {
            return Err(NoAnswer::Never("longer than a DNS message can be").into());
        }
        message.extend_from_slice(&piece);
        body.flow_control().release_capacity(piece.len())?;
    }
    Ok(message)
}
