use std::fmt::Write as _;
use std::time::Duration;

use hyper::{HeaderMap, Method};
use trailgate_client::Target;

use super::*;
use crate::policy::grant::{self, Access, AccessLogView};

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 7));

fn read_only(method: &Method, path: &str) -> Reject {
    let target = Target::canonical(path, None).unwrap();
    let decision = grant::decide(
        Access::Read,
        AccessLogView::Hidden,
        None,
        method,
        &target,
        &HeaderMap::new(),
        Duration::from_mins(1),
    );
    decision.unwrap_err().into()
}

#[test]
fn texts_of_rejections_match_their_snapshot() {
    let expired = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
    let rejections: [Reject; 35] = [
        HeadError::BareLf.into(),
        HeadError::RequestLine.into(),
        HeadError::Target.into(),
        HeadError::HeaderName.into(),
        HeadError::HeaderValue.into(),
        HeadError::Host.into(),
        HeadError::User.into(),
        HeadError::ContentLength.into(),
        HeadError::TransferEncoding.into(),
        HeadError::TooLarge.into(),
        HeadError::Slow.into(),
        BadHop.into(),
        LogFailure.into(),
        Reject::NotListed(CLIENT),
        Reject::Expired(CLIENT, expired),
        UnknownHost.into(),
        CrossSite.into(),
        read_only(&Method::POST, "/cwl-2026.11.29/_doc"),
        read_only(&Method::DELETE, "/cwl-*"),
        read_only(&Method::GET, "/*/_count"),
        QuotaError::Calls { limit: 16 }.into(),
        QuotaError::Contexts { limit: 8 }.into(),
        TargetError::Climb.into(),
        TargetError::BadEscape.into(),
        TargetError::TooLong.into(),
        Reject::Unsupported("CONNECT"),
        BodyError::TooLarge { limit: 1024 }.into(),
        BodyError::Slow.into(),
        BodyError::Overloaded.into(),
        RequestError::SignatureRejected.into(),
        RequestError::CredentialsRejected.into(),
        RequestError::Upstream(UpstreamError::ConnectTimeout).into(),
        RequestError::Upstream(UpstreamError::ResponseTimeout).into(),
        RequestError::Upstream(UpstreamError::HeadTooLarge).into(),
        Reject::Internal,
    ];
    let mut texts = String::new();
    for reject in rejections {
        writeln!(texts, "{} {}: {reject}", reject.status().as_u16(), reject.outcome()).unwrap();
        writeln!(texts, "    {}: {}", reject.title(), reject.help()).unwrap();
    }
    insta::assert_snapshot!(texts);
}
