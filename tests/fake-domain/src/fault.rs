//! Fault injection: the ways in which a fake domain can misbehave.

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

/// A fault injected into the response to one request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Never responds.
    Hang,
    /// Closes the connection before the first byte of the response.
    BreakOff,
    /// Closes the connection after half of the body.
    BreakBody,
    /// Responds, and closes the connection without announcing it.
    CloseAfter,
    /// Responds only when notified.
    HoldHead(Arc<Notify>),
    /// Sends the head and half of the body, and the rest when notified.
    HoldBody(Arc<Notify>),
    /// Delays the head and each quarter of the body by this time.
    Slow(Duration),
    /// Sends this response instead.
    Answer(Answer),
    /// Sends these bytes instead of an HTTP response, and closes the connection.
    Garbage(Bytes),
}

impl Fault {
    /// Sends this status and JSON body instead.
    #[must_use]
    pub fn status(status: u16, body: impl Into<Bytes>) -> Self {
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        Self::Answer(Answer { status, headers, body: body.into() })
    }
}

/// A fixed response.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status, 200 or higher.
    pub status: u16,
    /// The header lines; `content-length` is added.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

/// Returns the fault to inject into a request, if any.
pub type RequestRule = fn(&Seen) -> Option<Fault>;

/// Returns the rejection of an item of a `_bulk` request, if any, from the number of items before it and its document.
pub type ItemRule = fn(usize, &Value) -> Option<ItemRefusal>;

/// The rejection of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ItemRefusal {
    /// The item's status.
    pub status: u16,
    /// The error's type.
    pub kind: &'static str,
}

/// The number of requests that a fault applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// The next request.
    Once,
    /// This number of next requests.
    Next(usize),
    /// Every request until the faults are cleared.
    UntilCleared,
}

/// The pending faults, the next one first.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    queue: Mutex<VecDeque<(Fault, Times)>>,
    /// The rule for requests once the queue is empty.
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

/// Responds with the fault applied; `right` is the correct response.
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

/// Returns a response's head, and its body in two halves.
async fn halves(response: Response<Body>) -> Result<(Response<()>, Bytes, Bytes), BoxError> {
    let (head, body) = response.into_parts();
    let mut half = body.collect().await?.to_bytes();
    let rest = half.split_off(half.len() / 2);
    Ok((Response::from_parts(head, ()), half, rest))
}

fn frames(stream: impl stream::Stream<Item = Bytes> + Send + 'static) -> Body {
    StreamBody::new(stream.map(|bytes| Ok(Frame::data(bytes)))).boxed_unsync()
}
