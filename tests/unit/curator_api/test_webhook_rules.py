"""Where events may be sent, and how they are signed."""

import pytest

from tunemill.curator_api.webhook_hosts import refusal
from tunemill.curator_api.webhook_sign import new_secret, signed_headers

HOSTS = ("ci.example.com", "hooks.example.com:8443", "127.0.0.1:9000", "[::1]:9000")


@pytest.mark.parametrize(
    "url",
    [
        "https://ci.example.com/hook?x=1",
        "https://CI.example.com:443/hook",
        "https://hooks.example.com:8443",
        "http://127.0.0.1:9000/",
        "http://[::1]:9000/",
    ],
)
def test_listed_hosts_may_be_called(url: str) -> None:
    assert refusal(url, HOSTS) is None


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://example.com/hook", "TUNEMILL_WEBHOOK_HOSTS"),
        ("https://ci.example.com.evil.org/", "TUNEMILL_WEBHOOK_HOSTS"),
        ("https://ci.example.com:8443/", "TUNEMILL_WEBHOOK_HOSTS"),
        ("https://ci.example.com:0/", "TUNEMILL_WEBHOOK_HOSTS"),
        ("https://hooks.example.com/", "TUNEMILL_WEBHOOK_HOSTS"),
        ("http://127.0.0.1/", "TUNEMILL_WEBHOOK_HOSTS"),
        ("http://169.254.169.254/latest", "TUNEMILL_WEBHOOK_HOSTS"),
        ("http://ci.example.com/hook", "https"),
        ("https://ci.example.com@evil.org/", "without a user"),
        ("https://user:password@ci.example.com/", "without a user"),
        ("file:///etc/passwd", "http"),
        ("ftp://ci.example.com/", "http"),
        ("https://", "http"),
        ("https://ci.example.com:port/", "not an address"),
        ("https://[::1/", "not an address"),
        ("", "http"),
    ],
)
def test_others_are_refused_in_words(url: str, why: str) -> None:
    said = refusal(url, HOSTS)
    assert said is not None
    assert why in said


def test_nothing_is_allowed_unless_it_is_listed() -> None:
    assert refusal("https://ci.example.com/hook", ()) is not None


def test_a_signature_is_that_of_the_standards_own_example() -> None:
    headers = signed_headers(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_no_two_secrets_are_alike() -> None:
    assert len({new_secret() for _ in range(100)}) == 100
