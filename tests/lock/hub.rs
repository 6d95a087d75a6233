//! The client alone: what it asks, what it takes for an answer, and when it tries again.

use oomlint::hub::{Access, Error, Hub, Subject, Token};

use super::server::{Fault, File, Server};
use super::{TOKEN, Written, client};

const TEXT: &str = r#"{"model_type": "llama"}"#;

/// A server with one repository, and the subject of its config.json.
fn one() -> (Server, Subject) {
    let server = Server::start();
    let files = [
        ("config.json", File::text(TEXT)),
        ("weights", File::beginning(b"start".to_vec(), 1 << 40)),
    ];
    server.publish("org/model", 'a', &files);
    let commit = "a".repeat(40);
    (
        server,
        Subject::revision("org/model", &commit).file("config.json"),
    )
}

fn text(hub: &Hub, subject: &Subject) -> Result<Vec<u8>, Error> {
    hub.text(subject, Some(TEXT.len() as u64), 1 << 20)
}

#[test]
fn a_description_tells_the_commit_and_the_sizes_of_files() {
    let (server, _) = one();
    let (hub, _) = client(&server);
    let revision = hub.revision("org/model", "main").unwrap();
    assert_eq!(revision.commit, "a".repeat(40));
    assert_eq!(revision.files["weights"], Some(1 << 40));
    assert_eq!(
        server.take_paths(),
        ["/api/models/org/model/revision/main?blobs=true"]
    );
}

#[test]
fn an_endpoint_may_have_a_path_of_its_own() {
    let (server, _) = one();
    let access = Access::new(&format!("{}/mirror/", server.endpoint()), None).unwrap();
    let hub = Hub::new(access, Written::default()).unwrap();
    hub.revision("org/model", "v1").unwrap();
    assert_eq!(
        server.take_paths(),
        ["/mirror/api/models/org/model/revision/v1?blobs=true"]
    );
}

#[test]
fn the_token_goes_to_the_hub_and_stays_there_on_the_way_elsewhere() {
    let (server, config) = one();
    let (elsewhere, _) = one();
    let path = format!("{}/elsewhere{}", elsewhere.endpoint(), server_path("config.json"));
    server.fail("config.json", [Fault::Redirect(path)]);
    let (hub, _) = client(&server);
    assert_eq!(text(&hub, &config).unwrap(), TEXT.as_bytes());
    let token = |server: &Server| {
        server
            .requests()
            .pop()
            .unwrap()
            .headers
            .get("authorization")
            .cloned()
    };
    assert_eq!(token(&server), Some(format!("Bearer {TOKEN}")));
    assert_eq!(token(&elsewhere), None, "another port is another host");
}

#[test]
fn the_token_is_not_sent_again_after_a_way_through_another_host() {
    let (server, config) = one();
    let (elsewhere, _) = one();
    server.fail(
        "config.json",
        [Fault::Redirect(format!("{}/back", elsewhere.endpoint()))],
    );
    let home = format!("{}{}", server.endpoint(), server_path("config.json"));
    elsewhere.fail("/back", [Fault::Redirect(home)]);
    let (hub, _) = client(&server);
    text(&hub, &config).unwrap();
    let sent: Vec<bool> = server
        .requests()
        .iter()
        .map(|request| request.headers.contains_key("authorization"))
        .collect();
    assert_eq!(sent, [true, false]);
}

#[test]
fn the_token_follows_a_relative_redirect_on_the_hub() {
    let (server, config) = one();
    server.require_token(TOKEN);
    server.fail(
        "/org/model/resolve",
        [Fault::Redirect(format!(
            "/elsewhere{}",
            server_path("config.json")
        ))],
    );
    let (hub, _) = client(&server);
    assert_eq!(text(&hub, &config).unwrap(), TEXT.as_bytes());
}

#[test]
fn a_circle_of_redirects_is_left() {
    let (server, config) = one();
    server.fail(
        "config.json",
        [Fault::Always(Box::new(Fault::Redirect("?again".to_owned())))],
    );
    let (hub, clock) = client(&server);
    let error = text(&hub, &config).unwrap_err();
    assert!(
        error.to_string().contains("redirects more than 6 times"),
        "{error}"
    );
    assert_eq!((server.requests().len(), clock.pauses().len()), (7, 0));
}

#[test]
fn a_redirect_to_no_address_is_said_without_repeating_it() {
    for location in [
        "ftp://secret.example/x",
        "http://user:secret@h/",
        "file:///secret",
    ] {
        let (server, config) = one();
        server.fail("config.json", [Fault::Redirect(location.to_owned())]);
        let (hub, _) = client(&server);
        let error = text(&hub, &config).unwrap_err().to_string();
        assert!(
            error.contains("redirects to no usable address") && !error.contains("secret"),
            "{error}"
        );
    }
}

#[test]
fn passing_trouble_is_waited_out_for_longer_and_longer() {
    let (server, config) = one();
    let faults = [
        Fault::Status(500, ""),
        Fault::Status(503, ""),
        Fault::HangUp,
        Fault::Truncate(5),
    ];
    server.fail("config.json", faults);
    let (hub, clock) = client(&server);
    assert_eq!(text(&hub, &config).unwrap(), TEXT.as_bytes());
    assert_eq!(clock.pauses(), [500, 1000, 2000, 4000]);
}

#[test]
fn a_busy_server_decides_how_long_it_is_left_alone_within_reason() {
    let (server, config) = one();
    let after = |text| Fault::Status(429, text);
    server.fail(
        "config.json",
        [
            after("Retry-After: 7\r\n"),
            after("Retry-After: soon\r\n"),
            after(""),
        ],
    );
    let (hub, clock) = client(&server);
    text(&hub, &config).unwrap();
    assert_eq!(clock.pauses(), [7000, 1000, 2000]);

    server.fail("config.json", [after("Retry-After: 86400\r\n")]);
    let (hub, clock) = client(&server);
    let error = text(&hub, &config).unwrap_err().to_string();
    assert!(
        error.contains("answered 429") && error.contains("86400 s"),
        "{error}"
    );
    assert!(clock.pauses().is_empty());
}

#[test]
fn trouble_that_stays_ends_after_five_attempts() {
    let (server, config) = one();
    server.fail("config.json", [Fault::Always(Box::new(Fault::Status(503, "")))]);
    let (hub, clock) = client(&server);
    let error = text(&hub, &config).unwrap_err().to_string();
    assert!(error.contains("config.json of org/model"), "{error}");
    assert!(error.contains("answered 503, 5 times in a row"), "{error}");
    assert_eq!((server.requests().len(), clock.pauses().len()), (5, 4));
}

#[test]
fn a_hub_that_is_down_is_waited_for_once_and_not_for_every_model() {
    let (server, _) = one();
    server.fail("", [Fault::Always(Box::new(Fault::HangUp))]);
    let (hub, clock) = client(&server);
    for _ in 0..3 {
        let error = hub.revision("org/model", "main").unwrap_err().to_string();
        assert!(error.contains("hung up without an answer"), "{error}");
    }
    assert_eq!(clock.pauses().len(), 4);
}

#[test]
fn refusals_are_final_and_say_what_to_do() {
    let (server, config) = one();
    server.require_token("another");
    let (hub, clock) = client(&server);
    let error = text(&hub, &config).unwrap_err().to_string();
    assert!(
        error.contains("answered 403") && error.contains("Accept the terms"),
        "{error}"
    );

    let stranger = Hub::new(Access::new(&server.endpoint(), None).unwrap(), clock.clone()).unwrap();
    let error = text(&stranger, &config).unwrap_err().to_string();
    assert!(
        error.contains("answered 401") && error.contains("set HF_TOKEN"),
        "{error}"
    );

    server.fail("config.json", [Fault::Status(401, "")]);
    let error = text(&hub, &config).unwrap_err().to_string();
    assert!(error.contains("does not take the token"), "{error}");
    assert!(clock.pauses().is_empty(), "none of this passes");
}

#[test]
fn the_reason_that_the_hub_gives_is_told_in_our_words() {
    for (status, code, with_token, words) in [
        (
            401,
            "GatedRepo",
            false,
            "the model is gated, and no token was sent",
        ),
        (403, "GatedRepo", true, "Accept the terms of the model"),
        (
            401,
            "RepoNotFound",
            true,
            "there is no model org/model, or it is private",
        ),
        (401, "RepoNotFound", false, "nor which names are wrong"),
        (
            404,
            "RevisionNotFound",
            true,
            "has org/model, but no revision v9 of it",
        ),
        (404, "RepoNotFound", true, "has no model org/model"),
        (403, "hf_nonsense", true, "may not read it"),
    ] {
        let (server, _) = one();
        let header: &'static str = Box::leak(format!("X-Error-Code: {code}\r\n").into_boxed_str());
        server.fail("/api/", [Fault::Status(status, header)]);
        let token = Token::new(TOKEN).unwrap().filter(|_| with_token);
        let hub = Hub::new(
            Access::new(&server.endpoint(), token).unwrap(),
            Written::default(),
        )
        .unwrap();
        let error = hub.revision("org/model", "v9").unwrap_err().to_string();
        assert!(error.contains(words) && !error.contains("hf_"), "{code}: {error}");
    }
}

#[test]
fn what_is_absent_is_named() {
    let (server, config) = one();
    let (hub, clock) = client(&server);
    let error = hub.revision("org/modle", "main").unwrap_err().to_string();
    assert!(
        error.contains("no model org/modle, or no revision main of it"),
        "{error}"
    );
    let error = text(&hub, &config.file("tokenizer.json"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("no file tokenizer.json in org/model"), "{error}");
    assert!(clock.pauses().is_empty());
}

#[test]
fn no_error_repeats_what_the_server_wrote() {
    // The server's error bodies hold the request with its headers.
    for status in [400, 401, 403, 404, 410, 429, 500] {
        let (server, config) = one();
        server.fail(
            "config.json",
            [Fault::Always(Box::new(Fault::Status(
                status,
                "X-Error-Message: hf_The\r\n",
            )))],
        );
        let (hub, _) = client(&server);
        let error = text(&hub, &config).unwrap_err();
        let words = format!("{error} {error:?} {hub:?}");
        assert!(!words.contains(TOKEN) && !words.contains("hf_The"), "{words}");
    }
}

#[test]
fn a_range_is_asked_for_and_only_it_is_read() {
    let (server, config) = one();
    let (hub, _) = client(&server);
    let part = hub.part(&config.file("weights"), 0..8).unwrap();
    assert_eq!(
        (part.bytes.as_slice(), part.file_bytes),
        (&b"start\0\0\0"[..], Some(1 << 40))
    );
    let part = hub.part(&config.file("weights"), 2..4).unwrap();
    assert_eq!(part.bytes, b"ar");
    assert_eq!(server.requests()[1].headers["range"], "bytes=2-3");
    assert_eq!(server.sent(), 10);
}

#[test]
fn a_server_without_ranges_is_hung_up_on_when_enough_was_read() {
    for fault in [Fault::IgnoreRange, Fault::IgnoreRangeUnbounded] {
        let (server, config) = one();
        server.fail("weights", [Fault::Always(Box::new(fault))]);
        let (hub, _) = client(&server);
        assert_eq!(hub.part(&config.file("weights"), 0..5).unwrap().bytes, b"start");
        assert_eq!(hub.part(&config.file("weights"), 3..6).unwrap().bytes, b"rt\0");
        assert!(server.sent() < 64 << 20, "{} bytes were sent", server.sent());
    }
}

#[test]
fn another_range_than_the_one_asked_for_is_no_answer() {
    for fault in [
        Fault::ContentRange("bytes 1-8/1099511627776"),
        Fault::ContentRange("bytes 0-6/1099511627776"),
        Fault::ContentRange("bytes 0-7/4"),
        Fault::ContentRange("nonsense"),
        Fault::NoContentRange,
        Fault::Compressed,
    ] {
        let (server, config) = one();
        server.fail("weights", [fault.clone()]);
        let (hub, clock) = client(&server);
        let error = hub.part(&config.file("weights"), 0..8).unwrap_err();
        assert!(matches!(error, Error::Answer { .. }), "{fault:?}: {error}");
        assert!(error.to_string().contains("weights of org/model"), "{error}");
        assert!(clock.pauses().is_empty());
    }
}

#[test]
fn a_range_past_the_end_is_said() {
    let (server, config) = one();
    let (hub, _) = client(&server);
    let error = hub.part(&config, 4096..8192).unwrap_err().to_string();
    assert!(error.contains("the file ends before"), "{error}");
}

#[test]
fn a_broken_off_range_is_asked_for_again() {
    let (server, config) = one();
    server.fail("weights", [Fault::Truncate(3)]);
    let (hub, clock) = client(&server);
    assert_eq!(hub.part(&config.file("weights"), 0..8).unwrap().bytes.len(), 8);
    assert_eq!(clock.pauses(), [500]);
}

#[test]
fn texts_longer_than_they_may_be_are_not_read() {
    let (server, config) = one();
    let (hub, _) = client(&server);
    let error = hub
        .text(&config.file("weights"), None, 1000)
        .unwrap_err()
        .to_string();
    assert!(error.contains("larger than the 1000 bytes"), "{error}");
    let error = hub.text(&config, Some(4), 1000).unwrap_err().to_string();
    assert!(error.contains("of a file that has 4"), "{error}");
    assert!(server.sent() < 64 << 20, "{} bytes were sent", server.sent());
}

#[test]
fn descriptions_that_are_none_are_said() {
    let bodies = [
        "<html>sign in to the network</html>",
        "{}",
        r#"{"sha": "main", "siblings": []}"#,
        r#"{"sha": 7}"#,
        "",
        "[[[[",
    ];
    for body in bodies {
        let (server, _) = one();
        server.fail("/api/", [Fault::Body(body)]);
        let (hub, _) = client(&server);
        let error = hub.revision("org/model", "main").unwrap_err();
        assert!(matches!(error, Error::Answer { .. }), "{body}: {error}");
    }
}

#[test]
fn offline_is_refused_with_words() {
    let variables = |name: &str| (name == "HF_HUB_OFFLINE").then(|| "1".to_owned());
    let access = Access::from_environment(&variables).unwrap();
    let error = Hub::new(access, Written::default()).unwrap_err().to_string();
    assert!(error.starts_with("HF_HUB_OFFLINE says"), "{error}");
}

#[test]
fn a_token_with_a_line_break_never_becomes_a_header() {
    let error = Token::new("hf_a\r\nX-Injected: 1").unwrap_err();
    assert!(!error.contains("hf_a"), "{error}");
}

fn server_path(file: &str) -> String {
    format!("/org/model/resolve/{}/{file}", "a".repeat(40))
}
