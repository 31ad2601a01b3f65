"""Secrets never leave this step."""

import base64
import random
import re
from itertools import product

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunemill.bus.port import Message as BusMessage
from tunemill.privacy import secrets
from tunemill.privacy.secrets import KINDS, has_secret, may_have_secret, without_secrets
from tunemill.schemas.records import Feedback, LogRecord, Message, RejectedLog, ToolCall
from tunemill.schemas.trace import TraceNote
from tunemill.streams import mask as masking
from tunemill.streams.formats.shape import Piece
from tunemill.streams.mask import mask, mask_beside, mask_piece
from tunemill.streams.process import process
from tunemill.streams.rules import load_rules


def masked_text(text: str) -> str:
    return without_secrets(text)[0]


JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA\nabc+/=\n-----END RSA PRIVATE KEY-----"
SECRETS = [
    ("api-key", "sk-" + "a1B2" * 8),
    ("api-key", "sk-proj-" + "a1_B-2" * 8),
    ("api-key", "sk-ant-api03-" + "Zz9_" * 10),
    ("api-key", "ghp_" + "A1b2" * 9),
    ("api-key", "github_pat_" + "A1b2_" * 8),
    ("api-key", "glpat-" + "A1b2-" * 5),
    ("api-key", "xoxb-123456789012-abcdefghij"),
    ("api-key", "AIza" + "B" * 35),
    ("api-key", "sk_live_" + "a1" * 12),
    ("api-key", "hf_" + "aB" * 17),
    ("api-key", "gsk_" + "aB" * 24),
    ("api-key", "nvapi-" + "aB-_" * 15),
    ("api-key", "npm_" + "aB1x" * 9),
    ("api-key", "SG." + "a" * 22 + "." + "b" * 43),
    ("api-key", "tm_0a1b2c3d4e5f_" + "Ab1_-" * 8),
    ("api-key", "ya29." + "Ab1_-" * 8),
    ("api-key", "GOCSPX-" + "Ab1_" * 7),
    ("api-key", "whsec_" + "Ab1/" * 8),
    ("api-key", "1234567890:AA" + "Ab1" * 11),
    ("api-key", "SK" + "0a1b" * 8),
    ("api-key", "key-" + "0a1b" * 8),
    ("api-key", "MTA4" + "Ab1" * 7 + ".Ab1_-x." + "Ab1" * 10),
    ("api-key", "hvs." + "Ab1" * 30),
    ("api-key", "dckr_pat_" + "Ab1" * 9),
    ("api-key", "shpat_" + "0a1b" * 8),
    ("api-key", "ATATT3xFfGF0" + "Ab1" * 50),
    ("api-key", "lin_api_" + "Ab1x" * 10),
    ("api-key", "fw_" + "Ab1" * 8),
    ("api-key", "abC8Q~" + "Ab1x" * 8 + "ab"),
    ("aws-key", "AKIAIOSFODNN7EXAMPLE"),
    ("jwt", JWT),
    ("private-key", PEM),
    ("private-key", "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg"),
    ("private-key", PEM.replace("\n", "\\n")),
]
IN_CONTEXT = [
    (
        "aws-key",
        "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "aws_secret_access_key = [SECRET:aws-key]",
    ),
    ("api-key", 'api_key="0123456789abcdef0123456789"', 'api_key="[SECRET:api-key]"'),
    ("api-key", r"{\"apiKey\": \"0123456789abcdef0123456789\"}", r"{\"apiKey\": \"[SECRET:api-key]\"}"),
    ("bearer-token", "Authorization: Bearer 0123456789.abcdef-012345", "Authorization: Bearer [SECRET:bearer-token]"),
    ("jwt", f"Authorization: Bearer {JWT}", "Authorization: Bearer [SECRET:jwt]"),
    ("basic-auth", "authorization: Basic dXNlcjpwYXNz", "authorization: Basic [SECRET:basic-auth]"),
    ("url-password", "postgres://shop:hunter2@db:5432/x", "postgres://shop:[SECRET:url-password]@db:5432/x"),
    ("url-password", "https://u:p@ss@host/path", "https://u:[SECRET:url-password]@host/path"),
    ("url-password", "redis://:hunter2@cache", "redis://:[SECRET:url-password]@cache"),
    (
        "api-key",
        "https://hooks.slack.com/services/T0AB1CD2E/B0AB1CD2E/0123456789abcdefABCDEFGH",
        "https://hooks.slack.com/services/[SECRET:api-key]",
    ),
    ("api-key", f"AccountKey={'Ab1/' * 21}==;Suffix=x", "AccountKey=[SECRET:api-key];Suffix=x"),
    ("credential", "client_secret=Ab1xYz9kQw3ePl7m&state=1", "client_secret=[SECRET:credential]&state=1"),
    ("credential", "token = 0a1b2c3d4e5f60718293a4b5c6d7", "token = [SECRET:credential]"),
    ("credential", r"{\"refreshToken\": \"Ab1xYz9kQw3ePl7m\"}", r"{\"refreshToken\": \"[SECRET:credential]\"}"),
    ("password", "DB_PASSWORD=s3cr3tPassw0rd!", "DB_PASSWORD=[SECRET:password]"),
    ("password", 'password: str = "Tr0ub4dor&3xyz"', 'password: str = "[SECRET:password]"'),
    ("password", "(the password is P@ssword!).", "(the password is [SECRET:password])."),
    ("password", "- **Password:** hunter22", "- **Password:** [SECRET:password]"),
    ("password", "**Password**: hunter22", "**Password**: [SECRET:password]"),
]
HARMLESS = [
    "pip install sk-learn-contrib-package-name-long and task-0123456789abcdefghijklmnop",
    "risk-adjusted, disk-0123456789abcdefghijklmnop, the bearer of good news",
    "see https://example.com:8080/path@2 and mail a:b@c",
    "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
    "the api key is missing; set api_key to your key",
    "AKIA is a prefix, eyJ is another, ghp_ too",
    "password: the word that lets one in; password: <your-password-1>; password=${DB_PASSWORD_2}; PASSWORD={{ vault.db2 }}",
    'password = os.environ["PASSWORD_2"]; password = settings.password2; password=$password1; PWD=/home/user1/app2',
    "password: must have 8 characters; your-password-2024; password=your-password-2024; password: string; pwd: 123",
    "token = tokenizer.decode(ids[16:32])[0]; max_tokens: 1234567890123456; client_secret = config.oauth2.client_secret",
    "secret: my-application-credentials-v2; token: https://example.com/tokens/2; SECRET_KEY=<SECRET_KEY_OF_40>",
    "the password is SHA-256 hashed; a password is base64-encoded, password: sha512-crypt, 'password' => 'required|min:8'",
    "the password is 12-character long; password: 8-16chars; the password is 128-bit",
    "tm_transformers_pipeline_for_documents, SK12345, key-0123, 1234567890:AAPL, fw_implementationwithoutdigits",
]


def log(**fields: object) -> LogRecord:
    return msgspec.structs.replace(
        LogRecord(log_id="one", ts_ms=1, messages=(Message(role="user", content="hi"),)), **fields
    )


@pytest.mark.parametrize(("kind", "secret"), SECRETS)
@pytest.mark.parametrize("around", ["{}", "my key is {} thanks", "({})", '"{}"', "line\\n{} next"])
def test_each_kind_is_replaced_wherever_it_stands(kind: str, secret: str, around: str):
    masked = masked_text(around.format(secret))
    assert masked.startswith(around.split("{}", maxsplit=1)[0] + f"[SECRET:{kind}]")
    assert secret[:16] not in masked


@pytest.mark.parametrize(("kind", "text", "expected"), IN_CONTEXT)
def test_only_the_secret_itself_is_replaced(kind: str, text: str, expected: str):
    assert masked_text(text) == expected
    assert mask(log(app=text)).kinds == (kind,)


def test_every_kind_is_tried_here():
    assert {kind for kind, *_ in [*SECRETS, *IN_CONTEXT]} == set(KINDS)


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_secret_stays(text: str):
    assert masked_text(text) == text


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("db_password", "hunter2", "password"),
        ("clientSecret", "Ab1xYz9kQw3ePl7m", "credential"),
        ("api-key", "0123456789abcdef0123456789", "api-key"),
        ("note", "hunter2", None),
    ],
)
def test_the_name_of_a_field_says_what_its_value_is(name: str, value: str, kind: str | None):
    left = f"[SECRET:{kind}]" if kind else value
    masked = mask(log(metadata={name: value}, extra={"deep": [{name: value}]}))
    assert (masked.log.metadata, masked.log.extra) == ({name: left}, {"deep": [{name: left}]})
    assert masked.kinds == ((kind,) if kind else ())


def test_no_string_of_a_log_is_left_out():
    secret = "sk-" + "a1B2" * 8
    spots = LogRecord(
        log_id="one",
        ts_ms=1,
        messages=(Message(role="user", content=secret, parts=[{"text": secret}], name=secret, tool_call_id=secret),),
        output=(
            Message(
                role="assistant",
                refusal=secret,
                reasoning=secret,
                tool_calls=(ToolCall(name=secret, arguments=f'{{"k":"{secret}"}}', id=secret),),
            ),
        ),
        **dict.fromkeys(("app", "model", "provider", "finish_reason", "error", "response_id"), secret),
        **dict.fromkeys(("trace_id", "session_id", "user_id"), secret),
        tools=[{"function": {"description": secret}}],
        params={"stop": [secret], secret: 1},
        tags=(secret,),
        metadata={secret: secret},
        extra={"deep": [[{"er": secret}]]},
    )
    masked = mask(spots)
    assert secret.encode() not in msgspec.json.encode(masked.log)
    assert masked.kinds == ("api-key",)
    assert msgspec.json.encode(masked.log).count(b"[SECRET:api-key]") == msgspec.json.encode(spots).count(
        secret.encode()
    )


def test_an_id_that_holds_a_secret_becomes_another_that_is_always_the_same():
    spot = log(log_id="sk-" + "a1B2" * 8)
    assert mask(spot).log.log_id.startswith("sha-")
    assert mask(spot) == mask(spot)


def test_a_part_of_a_log_its_note_and_feedback_are_masked_alike():
    secret = "sk-" + "a1B2" * 8
    note = TraceNote(trace_id="t", user_id=secret, metadata={secret: secret}, tags=(secret,))
    masked = mask_piece(Piece(log(user_id=secret, extra={"a": secret}), rank=0, message_ns=(7,), note=note))
    assert masked.kinds == ("api-key",)
    assert (masked.piece.rank, masked.piece.message_ns) == (0, (7,))
    said = mask_beside(Feedback(feedback_id=secret, ts_ms=1, name=secret, log_id=secret, comment=secret))
    everything = msgspec.json.encode([masked.piece.log, masked.piece.note, said])
    assert secret.encode() not in everything
    assert everything.count(b"[SECRET:api-key]") == 2 + 4 + 2
    assert said.log_id == mask(log(log_id=secret)).log.log_id  # it still finds its log
    assert said.feedback_id.startswith("sha-")


def test_a_log_without_secrets_is_handed_on_as_it_is():
    plain = log()
    assert mask(plain).log is plain


pieces = st.sampled_from([secret for _, secret in SECRETS] + [text for _, text, _ in IN_CONTEXT] + HARMLESS) | st.text(
    max_size=20
)


@settings(deadline=None, max_examples=200)
@given(st.lists(pieces, max_size=6), st.sampled_from(["", " ", "\n", '","', "\\n"]))
def test_masking_twice_changes_nothing_more(parts: list[str], between: str):
    masked = masked_text(between.join(parts))
    assert masked_text(masked) == masked


BESIDE = ("", " ", "x", '"', "\\", "\\n", "\n", "\t", "\f", "\b", "\x01", "\x7f", "é")


AMONG_ESCAPES = (
    "bearer 0123456789.abcdef-012345",
    '{"authorization" : "Basic dXNlcjpwYXNz"}',
    '{"api-key" : "0123456789abcdef0123456789"}',
    "db://a\x01b:c\x02\bd@host",
)


@pytest.mark.parametrize(
    "text", [*(secret for _, secret in SECRETS), *(text for _, text, _ in IN_CONTEXT), *AMONG_ESCAPES]
)
def test_what_a_string_holds_is_not_overlooked_in_its_json(text: str):
    for before, space, after in product(BESIDE, " \t\n\r\f", BESIDE):
        held = before + text.replace(" ", space) + after
        for _ in range(3):  # JSON in JSON, as in a tool's arguments
            assert may_have_secret(msgspec.json.encode([held])) or not has_secret(held)
            held = msgspec.json.encode({held: None}).decode()


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(secrets._PATTERNS).flatmap(lambda pattern: st.from_regex(pattern.regex)))
def test_whatever_a_pattern_finds_its_gate_lets_through(text: str):
    assert may_have_secret(msgspec.json.encode([text])) or not secrets._search(text)


@pytest.mark.parametrize("count", [2, 500])
def test_secrets_with_nothing_between_are_all_replaced_in_few_passes(count: int, monkeypatch: pytest.MonkeyPatch):
    passes = []
    search = secrets._search
    monkeypatch.setattr(secrets, "_search", lambda text: passes.append(text) or search(text))
    row = "".join(f"AIza{number:035}" for number in range(count))
    assert re.fullmatch(r'see "(\[SECRET:api-key\])+", twice', masked_text(f'see "{row}", twice'))
    assert len(passes) < 10


def test_a_picture_is_seldom_taken_apart():
    pictures = [base64.b64encode(random.Random(seed).randbytes(50_000)) for seed in range(20)]
    assert sum(map(may_have_secret, pictures)) <= 1


def test_words_about_secrets_are_no_secrets():
    words = "How do I send an authorization header, a Bearer token or an api_key? See aws_secret_access_key."
    assert may_have_secret(words.encode())
    plain = log(messages=(Message(role="user", content=words),))
    assert mask(plain).log is plain


def test_when_masking_fails_the_log_is_rejected_and_its_bytes_are_not_kept(monkeypatch: pytest.MonkeyPatch):
    def broken(_json: bytes) -> bool:
        raise ZeroDivisionError("with the log's own text")

    monkeypatch.setattr(masking, "may_have_secret", broken)
    payload = msgspec.json.encode(log())
    message = BusMessage("llm.logs", 0, 3, None, payload, 1)
    (result,) = process([message], load_rules(), now_ms=1)[0]
    assert isinstance(result, RejectedLog)
    assert (result.stage, result.error_code, result.payload) == ("mask", "internal", b"")
    assert result.payload_bytes == len(payload)
    assert "own text" not in result.reason
