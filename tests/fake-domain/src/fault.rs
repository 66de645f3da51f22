//! The ways in which a domain can misbehave.

use std::{
    collections::VecDeque,
    future,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::{Response, StatusCode, body::Frame, header::CONTENT_LENGTH};
use serde_json::Value;
use tokio::{sync::Notify, time::sleep};

use crate::{
    seen::Seen,
    server::{Body, BoxError, full},
    wire::{Wire, lock},
};

/// A way to misbehave at a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Never answers.
    Hang,
    /// Closes the connection before the first byte of an answer.
    BreakOff,
    /// Closes the connection after half of the body.
    BreakBody,
    /// Answers, and closes the connection without having said so.
    CloseAfter,
    /// Answers only when notified.
    HoldHead(Arc<Notify>),
    /// Sends the head and half of the body, and the rest only when notified.
    HoldBody(Arc<Notify>),
    /// Waits this long before the head and before each quarter of the body.
    Slow(Duration),
    /// Answers this instead.
    Answer(Answer),
    /// Sends these bytes instead of an HTTP answer, and closes the connection.
    Garbage(Bytes),
}

impl Fault {
    /// Answers this status and JSON body instead.
    #[must_use]
    pub fn status(status: u16, body: impl Into<Bytes>) -> Self {
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        Self::Answer(Answer { status, headers, body: body.into() })
    }
}

/// A fixed answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status, from 200 on.
    pub status: u16,
    /// The header lines; the body's length comes by itself.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

/// Tells for each request, from what was seen of it, in which way to misbehave, if at all.
pub type RequestRule = fn(&Seen) -> Option<Fault>;

/// Tells for each item of a `_bulk` request, from how many came before it and its document, whether to refuse it.
pub type ItemRule = fn(usize, &Value) -> Option<ItemRefusal>;

/// Why an item is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ItemRefusal {
    /// The item's status.
    pub status: u16,
    /// The error's type.
    pub kind: &'static str,
}

/// How often a fault happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// At the next request.
    Once,
    /// At so many of the next requests.
    Next(usize),
    /// At every request until the faults are cleared.
    UntilCleared,
}

/// The faults still to happen, the next one first.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    queue: Mutex<VecDeque<(Fault, Times)>>,
    /// What there is to find fault with in requests that no fault of the queue meets.
    rule: Mutex<Option<RequestRule>>,
}

impl Faults {
    pub(crate) fn push(&self, fault: Fault, times: Times) {
        lock(&self.queue).push_back((fault, times));
    }

    pub(crate) fn judge(&self, rule: Option<RequestRule>) {
        *lock(&self.rule) = rule;
    }

    pub(crate) fn clear(&self) {
        lock(&self.queue).clear();
        self.judge(None);
    }

    pub(crate) fn take(&self, seen: &Seen) -> Option<Fault> {
        self.next().or_else(|| lock(&self.rule).and_then(|rule| rule(seen)))
    }

    fn next(&self) -> Option<Fault> {
        let mut faults = lock(&self.queue);
        loop {
            let (fault, times) = faults.pop_front()?;
            match times {
                Times::Next(0) => continue,
                Times::Next(left) => faults.push_front((fault.clone(), Times::Next(left - 1))),
                Times::UntilCleared => faults.push_front((fault.clone(), times)),
                Times::Once => {}
            }
            return Some(fault);
        }
    }
}

/// Answers as the fault has it; `right` is the right answer.
pub(crate) async fn answer(
    fault: Fault,
    right: impl Future<Output = Response<Body>>,
    wire: &Wire,
) -> Result<Response<Body>, BoxError> {
    match fault {
        Fault::Hang => future::pending().await,
        Fault::BreakOff => {
            wire.cut(Bytes::new());
            future::pending().await
        }
        Fault::Garbage(bytes) => {
            wire.cut(bytes);
            future::pending().await
        }
        Fault::BreakBody => {
            let (mut response, half, rest) = halves(right.await).await?;
            let length = half.len() + rest.len();
            response.headers_mut().insert(CONTENT_LENGTH, length.into());
            wire.cut_after_flush();
            Ok(response.map(|()| frames(stream::iter([half]).chain(stream::pending()))))
        }
        Fault::CloseAfter => {
            let (response, half, rest) = halves(right.await).await?;
            wire.cut_after_flush();
            Ok(response.map(|()| full([half, rest].concat())))
        }
        Fault::HoldHead(release) => {
            release.notified().await;
            Ok(right.await)
        }
        Fault::HoldBody(release) => {
            let (mut response, half, rest) = halves(right.await).await?;
            response.headers_mut().remove(CONTENT_LENGTH);
            let rest = async move {
                release.notified().await;
                rest
            };
            Ok(response.map(|()| frames(stream::iter([half]).chain(stream::once(rest)))))
        }
        Fault::Slow(pause) => {
            let (mut response, half, rest) = halves(right.await).await?;
            response.headers_mut().remove(CONTENT_LENGTH);
            sleep(pause).await;
            let quarters = [half, rest].into_iter().flat_map(|half| {
                let middle = half.len() / 2;
                [half.slice(..middle), half.slice(middle..)]
            });
            let paused = stream::iter(quarters.collect::<Vec<_>>()).then(move |quarter| async move {
                sleep(pause).await;
                quarter
            });
            Ok(response.map(|()| frames(paused)))
        }
        Fault::Answer(answer) => {
            let mut response = Response::builder().status(StatusCode::from_u16(answer.status)?);
            for (name, value) in answer.headers {
                response = response.header(name, value);
            }
            Ok(response.body(full(answer.body))?)
        }
    }
}

/// A response's head, and its body in two halves.
async fn halves(response: Response<Body>) -> Result<(Response<()>, Bytes, Bytes), BoxError> {
    let (head, body) = response.into_parts();
    let mut half = body.collect().await?.to_bytes();
    let rest = half.split_off(half.len() / 2);
    Ok((Response::from_parts(head, ()), half, rest))
}

fn frames(stream: impl stream::Stream<Item = Bytes> + Send + 'static) -> Body {
    StreamBody::new(stream.map(|bytes| Ok(Frame::data(bytes)))).boxed_unsync()
}
