//! The torture messages of RFC 4475 that matter to a recorder, in our own words.
//!
//! Purpose: what each odd or broken message means to somebody who only listens.
//! Invariants: a message is rejected only if it cannot be attached to a dialog.
//! Non-goals: what a UA should answer.
//! Sources: RFC 4475 §3.1.1 (valid), §3.1.2 (invalid), §3.2–§3.4; the names are its own.

use callspan::sip::{
    BodyState, Likeness, MediaProtocol, Message, Method, Sdp, SipReject, StartLine, looks_like_sip,
};

/// A message of the given start line, Call-ID, CSeq and further header lines, without a body.
fn with(start: &str, call_id: &str, cseq: &str, more: &[&str]) -> String {
    let mut text = format!("{start}\r\nCall-ID: {call_id}\r\nCSeq: {cseq}\r\n");
    for line in more {
        text.push_str(line);
        text.push_str("\r\n");
    }
    text + "\r\n"
}

fn parse(text: &str) -> Message<'_> {
    assert_eq!(looks_like_sip(text.as_bytes()), Likeness::Yes, "{text}");
    callspan::sip::fuzz::message(text.as_bytes());
    Message::parse(text.as_bytes()).expect("a recorder takes it")
}

fn reject(text: &str) -> &'static str {
    Message::parse(text.as_bytes()).map(|_| ()).map_err(SipReject::label).expect_err("rejected")
}

/// (start, Call-ID, CSeq number, CSeq method) in one line.
fn gist(message: &Message<'_>) -> String {
    let start = match message.start() {
        StartLine::Request { method, .. } => method.name().to_owned(),
        StartLine::Response { status, .. } => status.to_string(),
    };
    let call_id = String::from_utf8_lossy(message.call_id());
    format!("{start} {call_id} {} {}", message.cseq().number, message.cseq().method.name())
}

fn text(value: Option<&[u8]>) -> &str {
    std::str::from_utf8(value.expect("present")).expect("UTF-8")
}

const WSINV: &str = "INVITE sip:vivekg@chair-dnrc.example.com;unknownparam SIP/2.0\r\n\
TO :\r\n sip:vivekg@chair-dnrc.example.com ;   tag    = 1918181833n\r\n\
from   : \"J Rosenberg \\\\\\\"\"       <sip:jdrosen@example.com>\r\n  ;\r\n  tag = 98asjd8\r\n\
MaX-fOrWaRdS: 0068\r\n\
Call-ID: wsinv.ndaksdj@192.0.2.1\r\n\
Content-Length   : 150\r\n\
cseq: 0009\r\n  INVITE\r\n\
Via  : SIP  /   2.0\r\n /UDP\r\n    192.0.2.2;branch=390skdjuw\r\n\
s :\r\n\
NewFangledHeader:   newfangled value\r\n continued newfangled value\r\n\
UnknownHeaderWithUnusualValue: ;;,,;;,;\r\n\
Content-Type: application/sdp\r\n\
Route:\r\n <sip:services.example.com;lr;unknownwith=value;unknown-no-value>\r\n\
v:  SIP  / 2.0  / TCP     spindle.example.com   ;\r\n  branch  =   z9hG4bK9ikj8  ,\r\n\
\x20SIP  /    2.0   / UDP  192.168.255.111   ; branch=\r\n z9hG4bK30239\r\n\
m:\"Quoted string \\\"\\\"\" <sip:jdrosen@example.com> ; newparam =\r\n      newvalue ;\r\n  secondparam ; q = 0.33\r\n\
\r\n\
v=0\r\no=mhandley 29739 7272939 IN IP4 192.0.2.3\r\ns=-\r\nc=IN IP4 192.0.2.4\r\nt=0 0\r\n\
m=audio 49217 RTP/AVP 0 12\r\nm=video 3227 RTP/AVP 31\r\na=rtpmap:31 LPC\r\n";

#[test]
fn wsinv_folds_and_white_space_everywhere_change_nothing() {
    let message = parse(WSINV);
    assert_eq!(gist(&message), "INVITE wsinv.ndaksdj@192.0.2.1 9 INVITE");
    let from = message.from();
    assert_eq!((from.display_name().as_str(), text(from.tag())), ("J Rosenberg \\\"", "98asjd8"));
    assert_eq!(text(message.to().tag()), "1918181833n");
    assert_eq!(message.to().party().number, "vivekg");
    assert_eq!(text(message.via_branch()), "390skdjuw");
    assert_eq!(message.list("Via").count(), 3);
    let newfangled = message.header("newfangledheader").expect("header");
    assert_eq!(text(Some(&newfangled)), "newfangled value continued newfangled value");
    assert_eq!(message.header("subject").as_deref(), Some(&b""[..]));
    let sdp = Sdp::parse(message.sdp().expect("SDP")).expect("description");
    assert_eq!((sdp.media[0].port, sdp.media[0].formats[1].encoding.as_str()), (49_217, "QCELP"));
    assert_eq!((sdp.media[1].formats[0].encoding.as_str(), sdp.media.len()), ("LPC", 2));
    assert_eq!(message.body_state(), BodyState::Whole);
}

#[test]
fn intmeth_any_token_is_a_method_and_any_text_a_header() {
    let start = "!interesting-Method0123456789_*+`.%indeed'~ sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com SIP/2.0";
    let message = with(
        start,
        "intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{",
        "139122385 !interesting-Method0123456789_*+`.%indeed'~",
        &[
            "To: \"BEL:\\\x07 NUL:\\\x00 DEL:\\\x7f\" <sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*@example.com>",
            "From: token1~` token2'+_ token3*%!.- <sip:mundane@example.com>;fromParam''~+*_!.-%=\"\u{440}\u{430}\";tag=_token~1'+`*%!-.",
            "extensionHeader-!.%*+_`'~:\u{fe}\u{200f}",
        ],
    );
    let message = parse(&message);
    assert_eq!(message.cseq().method, Method::Other);
    assert_eq!(message.method_name(), b"!interesting-Method0123456789_*+`.%indeed'~");
    assert_eq!(text(message.from().tag()), "_token~1'+`*%!-.");
    assert_eq!(message.from().display_name(), "token1~` token2'+_ token3*%!.-");
    assert_eq!(message.to().display_name(), "BEL:  NUL:  DEL:");
    assert_eq!(text(message.to().host()), "example.com");
    assert_eq!(text(message.request_uri().expect("request").host()), "example.com");
}

#[test]
fn esc01_and_escnull_escapes_are_decoded_but_not_to_control_characters() {
    let esc01 = with(
        "INVITE sip:sips%3Auser%40example.com@example.net SIP/2.0",
        "esc01.239409asdfakjkn23onasd0-3234",
        "234234 INVITE",
        &["To: sip:%75se%72@example.com", "From: <sip:I%20have%20spaces@example.net>;tag=938"],
    );
    let message = parse(&esc01);
    assert_eq!(message.to().party().number, "user");
    assert_eq!(message.from().party().number, "I have spaces");
    let callee = message.request_uri().expect("request").party();
    assert_eq!(callee.number, "sips:user@example.com");
    assert_eq!(callee.uri, "sip:sips%3Auser%40example.com@example.net");
    let escnull = with(
        "REGISTER sip:example.com SIP/2.0",
        "escnull.39203ndfvkjdasfkq3w4otrq0adsfdfnavd",
        "14398234 REGISTER",
        &["To: sip:null-%00-null@example.com", "From: sip:null-%00-null@example.com;tag=8393"],
    );
    let message = parse(&escnull);
    assert_eq!(message.from().party().number, "null-%00-null");
    assert_eq!(text(message.from().tag()), "8393");
}

#[test]
fn esc02_a_percent_sign_in_a_method_is_no_escape() {
    let text = with(
        "RE%47IST%45R sip:registrar.example.com SIP/2.0",
        "esc02.asdfnqwo34rq23i34jrjasdcnl23nrlknsdf",
        "29344 RE%47IST%45R",
        &[
            "To: \"%Z%45\" <sip:resource@example.com>",
            "From: \"%Z%45\" <sip:resource@example.com>;tag=f2",
        ],
    );
    let message = parse(&text);
    assert_eq!(
        (message.request_method(), message.cseq().method),
        (Some(Method::Other), Method::Other)
    );
    assert_eq!(message.to().display_name(), "%Z%45");
}

#[test]
fn lwsdisp_no_space_is_needed_before_the_bracket() {
    let text = with(
        "OPTIONS sip:user@example.com SIP/2.0",
        "lwsdisp.1234abcd@funky.example.com",
        "60 OPTIONS",
        &["To: sip:user@example.com", "From: caller<sip:caller@example.com>;tag=323"],
    );
    let caller = parse(&text).from();
    assert_eq!(
        (caller.display_name().as_str(), caller.party().number.as_str()),
        ("caller", "caller")
    );
}

#[test]
fn longreq_long_values_are_whole_and_parties_are_cut() {
    let long = "long".repeat(200);
    let text = with(
        &format!("INVITE sip:user@{long}.example.com SIP/2.0"),
        &format!("longreq.one{long}callid"),
        "3882340 INVITE",
        &[
            &format!(
                "To: \"I have a user name of {long} proportion\" <sip:user@example.com:6000;p{long}=v{long};short=v>"
            ),
            &format!("From: sip:{long}@example.com;tag=12982{long}424;unknown{long}name=v"),
            &["Via: SIP/2.0/TCP sip33.example.com", "v: SIP/2.0/TCP x;branch=no"]
                .repeat(20)
                .join("\r\n"),
            &format!("Unknown-{long}-Name: unknown-{long}-value"),
        ],
    );
    let message = parse(&text);
    assert_eq!(message.call_id().len(), 817);
    assert_eq!(message.from().tag().map(<[u8]>::len), Some(808));
    assert_eq!(message.from().party().number.len(), 256);
    assert_eq!(message.via_branch(), None);
    assert_eq!(message.headers("Via").count(), 40);
    assert!(message.header(&format!("unknown-{long}-name")).is_some());
}

#[test]
fn dblreq_what_follows_the_body_is_not_the_message() {
    let register = with(
        "REGISTER sip:example.com SIP/2.0",
        "dblreq.0ha0isndaksdj99sdfafnl3lk233412",
        "8 REGISTER",
        &["To: sip:j.user@example.com", "Content-Length: 0"],
    );
    let both =
        register.clone() + "\r\n\r\n" + &with("INVITE sip:x SIP/2.0", "other", "1 INVITE", &[]);
    let message = parse(&both);
    assert_eq!(gist(&message), "REGISTER dblreq.0ha0isndaksdj99sdfafnl3lk233412 8 REGISTER");
    assert_eq!((message.body(), message.body_state()), (&b""[..], BodyState::Followed));
}

#[test]
fn semiuri_a_semicolon_before_the_at_belongs_to_the_user() {
    let text = with(
        "OPTIONS sip:user;par=u%40example.net@example.com SIP/2.0",
        "semiuri.0ha0isndaksdj",
        "8 OPTIONS",
        &["To: sip:j_user@example.com", "From: sip:caller@example.org;tag=33242"],
    );
    let uri = parse(&text).request_uri().expect("request");
    assert_eq!(uri.user(), Some(&b"user;par=u%40example.net"[..]));
    assert_eq!((uri.host(), uri.uri_parameter("par")), (Some(&b"example.com"[..]), None));
    assert_eq!(uri.party().uri, "sip:user@example.com");
}

#[test]
fn transports_the_topmost_via_counts_whatever_its_transport() {
    let text = with(
        "OPTIONS sip:user@example.com SIP/2.0",
        "transports.kijh4akdnaqjkwendsasfdj",
        "60 OPTIONS",
        &[
            "Via: SIP/2.0/UDP t1.example.com;branch=z9hG4bKkdjuw",
            "Via: SIP/2.0/UNKNOWN t5.example.com;branch=z9hG4bK2980unddj",
            "Via: SIP/2.0/TLS t3.example.com;branch=z9hG4bK2980unddj",
        ],
    );
    assert_eq!(self::text(parse(&text).via_branch()), "z9hG4bKkdjuw");
}

#[test]
fn mpart01_a_multipart_without_sdp_has_none_and_one_with_sdp_is_found() {
    let body = "--7a9cbec02ceef655\r\nContent-Type: text/plain\r\n\r\nHello\r\n\
        --7a9cbec02ceef655\r\nContent-Type: application/octet-stream\r\n\r\n\u{0}\u{1}v=0\r\n\
        --7a9cbec02ceef655--\r\n";
    let head = |kind: &str, body: &str| {
        let (kind, length) = (format!("Content-Type: {kind}"), format!("l: {}", body.len()));
        with(
            "MESSAGE sip:kumiko@example.org SIP/2.0",
            "3d9485ad0c49859b",
            "1 MESSAGE",
            &[&kind, &length],
        ) + body
    };
    let text = head("multipart/mixed;boundary=7a9cbec02ceef655", body);
    assert_eq!((parse(&text).sdp(), parse(&text).body_state()), (None, BodyState::Whole));
    let with_sdp = body.replace("application/octet-stream", "application/sdp");
    let text = head("multipart/mixed;boundary=7a9cbec02ceef655", &with_sdp);
    assert_eq!(parse(&text).sdp(), Some(&b"\0\x01v=0"[..]));
}

#[test]
fn unreason_and_noreason_a_reason_phrase_may_be_anything_or_nothing() {
    let phrase = "= 2**3 * 5**2 \u{43d}\u{43e} \u{441}\u{442}\u{43e}";
    let text = with(&format!("SIP/2.0 200 {phrase}"), "unreason.1", "35 INVITE", &[]);
    let message = parse(&text);
    let reason = phrase.as_bytes();
    assert_eq!(message.start(), StartLine::Response { status: 200, reason });
    let text = with("SIP/2.0 100 ", "noreason.asndj203insdf99223ndf", "35 INVITE", &[]);
    assert_eq!(parse(&text).start(), StartLine::Response { status: 100, reason: b"" });
}

#[test]
fn badinv01_separators_too_many_are_passed_over() {
    let text = with(
        "INVITE sip:user@example.com SIP/2.0",
        "badinv01.0ha0isndaksdjasdf3234nas",
        "8 INVITE",
        &[
            "To: sip:j.user@example.com",
            "From: sip:caller@example.net;tag=134161461246",
            "Via: SIP/2.0/UDP 192.0.2.15;;,;,,",
            "Contact: \"Joe\" <sip:joe@example.org>;;;;",
        ],
    );
    let message = parse(&text);
    assert_eq!((text_of(message.from().tag()), message.via_branch()), ("134161461246", None));
    assert_eq!(message.list("Contact").count(), 1);
}

fn text_of(value: Option<&[u8]>) -> &str {
    text(value)
}

#[test]
fn clerr_ncl_and_mcl01_content_lengths_that_lie_leave_what_there_is() {
    let sdp = "v=0\r\no=- 1 2 IN IP4 192.0.2.1\r\nm=audio 9 RTP/AVP 0\r\n";
    let build = |lengths: &[&str]| {
        let lines = [&["Content-Type: application/sdp"], lengths].concat();
        with("INVITE sip:user@example.com SIP/2.0", "clerr.1", "8 INVITE", &lines) + sdp
    };
    for (lengths, state, declared) in [
        (&["Content-Length: 9999"][..], BodyState::Shorter, Some(9_999)),
        (&["Content-Length: -999"], BodyState::Whole, None),
    ] {
        let text = build(lengths);
        let message = parse(&text);
        assert_eq!((message.body_state(), message.declared_len()), (state, declared));
        assert_eq!(message.sdp(), Some(sdp.as_bytes()));
    }
    let twice = build(&["Content-Length: 5", "Content-Length: 13"]);
    let message = parse(&twice);
    assert_eq!((message.body(), message.body_state()), (&b"v=0\r\n"[..], BodyState::Followed));
}

#[test]
fn scalar02_and_scalarlg_a_sequence_number_that_does_not_fit_is_rejected() {
    let start = "REGISTER sip:example.com SIP/2.0";
    assert_eq!(reject(&with(start, "scalar02", "36893488147419103232 REGISTER", &[])), "bad_cseq");
    let start = "SIP/2.0 503 Service Unavailable";
    assert_eq!(reject(&with(start, "scalarlg", "9292394834772304023312 OPTIONS", &[])), "bad_cseq");
    let other_scalars = [
        "Max-Forwards: 300",
        "Expires: 10000000000000",
        "Retry-After: 949302838503028349304023988",
    ];
    let text = with(start, "scalarlg", "4294967295 OPTIONS", &other_scalars);
    assert_eq!(gist(&parse(&text)), "503 scalarlg 4294967295 OPTIONS");
}

#[test]
fn quotbal_a_quote_without_end_does_not_hide_the_uri() {
    let text = with(
        "INVITE sip:user@example.com SIP/2.0",
        "quotbal.aksdj",
        "8 INVITE",
        &["To: \"Mr. J. User <sip:j.user@example.com>", "From: sip:caller@example.net;tag=93334"],
    );
    let callee = parse(&text).to().party();
    assert_eq!(
        (callee.uri.as_str(), callee.name.as_str()),
        ("sip:j.user@example.com", "Mr. J. User")
    );
}

#[test]
fn ltgtruri_lwsruri_lwsstart_and_trws_the_request_uri_is_what_is_in_between() {
    for (start, uri, user) in [
        ("INVITE <sip:user@example.com> SIP/2.0", "<sip:user@example.com>", "user"),
        ("INVITE sip:user@example.com; lr SIP/2.0", "sip:user@example.com; lr", "user"),
        ("INVITE  sip:user@example.com  SIP/2.0", "sip:user@example.com", "user"),
        (
            "INVITE sip:remote-target@example.com SIP/2.0  ",
            "sip:remote-target@example.com",
            "remote-target",
        ),
    ] {
        let text = with(start, "uri.1", "8 INVITE", &[]);
        let message = parse(&text);
        assert_eq!(
            message.start(),
            StartLine::Request { method: Method::Invite, uri: uri.as_bytes() }
        );
        assert_eq!(message.request_uri().expect("request").party().number, user, "{start}");
    }
}

#[test]
fn escruri_baddate_regbadct_and_bext01_do_not_concern_a_recorder() {
    for (start, cseq, line) in [
        (
            "INVITE sip:user@example.com?Route=%3Csip:example.com%3E SIP/2.0",
            "7 INVITE",
            "Contact: <sip:x>",
        ),
        ("INVITE sip:user@example.com SIP/2.0", "8 INVITE", "Date: Fri, 01 Jan 2010 16:00:00 EST"),
        (
            "REGISTER sip:example.com SIP/2.0",
            "9 REGISTER",
            "Contact: sip:user@example.com?Route=%3Csip:x%3E",
        ),
        (
            "OPTIONS sip:user@example.com SIP/2.0",
            "8 OPTIONS",
            "Proxy-Require: nothingSupportsThis, nothingSupportsThisEither",
        ),
    ] {
        let text = with(start, "1@x", cseq, &[line, "f: <sip:a@b>;tag=1"]);
        let message = parse(&text);
        assert_eq!(message.method_name(), start.split(' ').next().expect("method").as_bytes());
        assert_eq!(message.all_headers().count(), 4);
    }
    let date = with("BYE sip:x SIP/2.0", "1", "1 BYE", &["Date: Fri, 01 Jan 2010 16:00:00 EST"]);
    let date = parse(&date).header("date").expect("Date").into_owned();
    assert_eq!(date, b"Fri, 01 Jan 2010 16:00:00 EST");
}

#[test]
fn badaspec_and_baddn_spaces_and_commas_in_addresses_are_taken() {
    let text = with(
        "OPTIONS sip:user@example.org SIP/2.0",
        "badaspec.sdf0234n2nds0a099u23h3hnnw009cdkne3",
        "3923239 OPTIONS",
        &[
            "From: Bell, Alexander <sip:a.g.bell@example.com>;tag=43",
            "To: \"Watson, Thomas\" < sip:t.watson@example.org >",
        ],
    );
    let message = parse(&text);
    assert_eq!(message.to().party().uri, "sip:t.watson@example.org");
    assert_eq!(message.to().display_name(), "Watson, Thomas");
    assert_eq!(message.from().display_name(), "Bell, Alexander");
    assert_eq!(self::text(message.from().tag()), "43");
}

#[test]
fn badvers_another_version_is_not_sip_to_us() {
    let text = with("OPTIONS sip:t.watson@example.org SIP/7.0", "badvers.1", "1 OPTIONS", &[]);
    assert_eq!(looks_like_sip(text.as_bytes()), Likeness::No);
    assert_eq!(reject(&text), "not_sip");
}

#[test]
fn mismatch01_and_mismatch02_both_methods_are_told() {
    let text =
        with("OPTIONS sip:user@example.com SIP/2.0", "mismatch01.dj0234sxdfl3", "8 INVITE", &[]);
    assert_eq!(gist(&parse(&text)), "OPTIONS mismatch01.dj0234sxdfl3 8 INVITE");
    let text =
        with("NEWMETHOD sip:user@example.com SIP/2.0", "mismatch02.dj0234sxdfl3", "8 INVITE", &[]);
    assert_eq!(gist(&parse(&text)), "OTHER mismatch02.dj0234sxdfl3 8 INVITE");
}

#[test]
fn bigcode_a_status_of_more_than_three_digits_is_rejected() {
    let start = "SIP/2.0 4294967301 better not break the receiver";
    assert_eq!(
        reject(&with(
            start,
            "bigcode.asdof3uj203asdnf3429uasdhfas3ehjasdfas9i",
            "353494 INVITE",
            &[]
        )),
        "bad_status"
    );
}

#[test]
fn badbranch_a_cookie_alone_does_not_join_different_dialogs() {
    let build = |call_id: &str| {
        with(
            "OPTIONS sip:user@example.com SIP/2.0",
            call_id,
            "8 OPTIONS",
            &["Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK", "f: <sip:c@x>;tag=33242"],
        )
    };
    let (one, other) = (build("badbranch.1"), build("badbranch.2"));
    assert_eq!(text(parse(&one).via_branch()), "z9hG4bK");
    assert_ne!(parse(&one).transaction_key(), parse(&other).transaction_key());
}

#[test]
fn insuf_without_call_id_there_is_no_dialog() {
    let text = "INVITE sip:user@example.com SIP/2.0\r\nCSeq: 193942 INVITE\r\n\
        Via: SIP/2.0/UDP 192.0.2.95;branch=z9hG4bKkdj.insuf\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(reject(text), "no_call_id");
    // Without From and To alone, there is.
    let text = with("INVITE sip:user@example.com SIP/2.0", "insuf", "1 INVITE", &[]);
    let message = parse(&text);
    assert_eq!((message.from().tag(), message.to().party().uri), (None, String::new()));
}

#[test]
fn unkscm_novelsc_and_unksm2_other_schemes_are_shown_as_they_stand() {
    for uri in [
        "nobodyKnowsThisScheme:totallyopaquecontent",
        "soap.beep://192.0.2.103:3002",
        "isbn:2983792873",
        "http://www.example.com",
        "name:John_Smith",
    ] {
        let text = with(
            &format!("OPTIONS {uri} SIP/2.0"),
            "unkscm.nasdfasser0q239nwsdfasdkl34",
            "3923423 OPTIONS",
            &[&format!("To: {uri}"), &format!("From: <{uri}>;tag=384")],
        );
        let message = parse(&text);
        for party in [message.to().party(), message.from().party()] {
            assert_eq!((party.uri.as_str(), party.number.as_str()), (uri, ""));
        }
        assert_eq!(message.request_uri().expect("request").uri(), uri.as_bytes());
    }
}

#[test]
fn invut_regaut01_and_bcast_parse_although_a_ua_would_refuse() {
    let text = with(
        "INVITE sip:user@example.com SIP/2.0",
        "invut.0ha0isndaksdjadsfij34n23d",
        "235448 INVITE",
        &["Content-Type: application/unknownformat", "Content-Length: 7"],
    ) + "<audio>";
    assert_eq!((parse(&text).sdp(), parse(&text).body()), (None, &b"<audio>"[..]));
    let line = "Authorization: NoOneKnowsThisScheme opaque-data=here";
    let text = with("REGISTER sip:example.com SIP/2.0", "regaut01", "9338 REGISTER", &[line]);
    assert_eq!(gist(&parse(&text)), "REGISTER regaut01 9338 REGISTER");
    let vias = ["Via: SIP/2.0/UDP 255.255.255.255;branch=z9hG4bK1saber23", "l: 0"];
    let text =
        with("SIP/2.0 200 OK", "bcast.0384840201234ksdfak3j2erwedfsASdf", "35 INVITE", &vias);
    assert_eq!(self::text(parse(&text).via_branch()), "z9hG4bK1saber23");
}

#[test]
fn multi01_the_first_of_each_counts() {
    let text = with(
        "INVITE sip:user@company.com SIP/2.0",
        "multi01.98asdh@192.0.2.1",
        "59 INVITE",
        &[
            "Call-ID: multi01.98asdh@192.0.2.2",
            "CSeq: 60 INVITE",
            "From: sip:caller@example.com;tag=3413415",
            "From: sip:different@example.com;tag=2923420",
            "To: sip:user@example.com",
            "To: sip:other@example.net",
        ],
    );
    let message = parse(&text);
    assert_eq!(gist(&message), "INVITE multi01.98asdh@192.0.2.1 59 INVITE");
    assert_eq!(self::text(message.from().tag()), "3413415");
    assert_eq!(message.to().party().number, "user");
    assert_eq!(message.headers("call-id").count(), 2);
}

#[test]
fn zeromf_cparam01_and_inv2543_are_ordinary() {
    let text = with(
        "OPTIONS sip:user@example.com SIP/2.0",
        "zeromf",
        "39234321 OPTIONS",
        &["Max-Forwards: 0"],
    );
    assert_eq!(parse(&text).header("max-forwards").as_deref(), Some(&b"0"[..]));
    let contact = "Contact: sip:+19725552222@gw1.example.net;unknownparam";
    let text = with("REGISTER sip:example.com SIP/2.0", "cparam01", "9 REGISTER", &[contact]);
    let contact = parse(&text).header("m").expect("Contact").into_owned();
    let address = callspan::sip::NameAddr::parse(&contact);
    assert_eq!(address.party().uri, "sip:+19725552222@gw1.example.net");
    assert_eq!(address.parameter("unknownparam"), Some(&b""[..]));
    let text = with(
        "INVITE sip:UserB@example.com SIP/2.0",
        "inv2543.1717@ift.client.example.com",
        "56 INVITE",
        &[
            "Via: SIP/2.0/UDP iftgw.example.com",
            "From: <sip:+13035551111@ift.client.example.net;user=phone>",
        ],
    );
    let message = parse(&text);
    assert_eq!((message.via_branch(), message.from().tag()), (None, None));
    assert_eq!(message.from().party().number, "+13035551111");
}

#[test]
fn sdp01_an_unacceptable_accept_header_does_not_hide_the_sdp() {
    let sdp = "v=0\r\no=mhandley 29739 7272939 IN IP4 192.0.2.5\r\ns=-\r\nc=IN IP4 192.0.2.5\r\nt=0 0\r\n\
        m=audio 49217 RTP/AVP 0 12\r\nm=video 3227 RTP/AVP 31\r\na=rtpmap:31 LPC\r\n";
    let lines = [
        "Accept: text/nobodyKnowsThis",
        "Content-Type: application/sdp",
        &format!("l: {}", sdp.len()),
    ];
    let text =
        with("INVITE sip:user@example.com SIP/2.0", "sdp01.ndaksdj9342dasdd", "8 INVITE", &lines)
            + sdp;
    let message = parse(&text);
    let sdp = Sdp::parse(message.sdp().expect("SDP")).expect("description");
    assert_eq!((sdp.media.len(), sdp.media[0].protocol), (2, MediaProtocol::RtpAvp));
    assert_eq!(
        sdp.media[1].address.map(|address| address.to_string()).as_deref(),
        Some("192.0.2.5")
    );
}

#[test]
fn every_torture_message_survives_every_cut_and_the_framer() {
    let two = WSINV.to_owned() + &with("BYE sip:x SIP/2.0", "1", "1 BYE", &["l: 0"]);
    callspan::sip::fuzz::framing(two.as_bytes());
    assert_eq!(callspan::sip::fuzz::messages_in(&[two.as_bytes()]).len(), 2);
    for cut in 0..WSINV.len() {
        callspan::sip::fuzz::message(&WSINV.as_bytes()[..cut]);
    }
}
