"""Vectors for session keys: RFC 3711 appendix B.2, RFC 6188 section 7.1, RFC 7714 sections 16 and 17."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import given
from hypothesis import strategies as st

from livechat.srtp.cipher import (
    RTCP_ENCRYPTED,
    AnyCipher,
    CounterModeCipher,
    GcmCipher,
    make_ciphers,
)
from livechat.srtp.error import AuthenticationError
from livechat.srtp.kdf import SessionKeys
from livechat.srtp.profile import SrtpProfile
from tests.support.voice import PROFILES, master_of

KEY_128 = bytes(range(16))
KEY_256 = bytes(range(32))
SALT = b"Quid pro quo"

RTP_HEADER = bytes.fromhex("8040f17b8041f8d35501a0b2")
RTP_PAYLOAD = b"Gallia est omnis divisa in partes tres"
RTP_SSRC = 0x5501A0B2
RTP_INDEX = 0xF17B

# The packet of the vectors; the introduction of RFC 7714 section 17 prints another one.
RTCP = bytes.fromhex(
    "81c8000d4d6172734e5450314e545032525450200000042a0000e9304c756e61deadbeefdeadbeefdeadbeefdeadbeefdeadbeef"
)
RTCP_SSRC = 0x4D617273
RTCP_INDEX = 0x5D4


def gcm(key: bytes) -> GcmCipher:
    return GcmCipher(SessionKeys(encryption=key, salt=SALT, authentication=b""))


@pytest.mark.parametrize(
    ("key", "sealed"),
    [
        (
            KEY_128,
            "f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833"
            "899d7f27beb16a9152cf765ee4390cce",
        ),
        (
            KEY_256,
            "32b1de78a822fe12ef9f78fa332e33aab18012389a58e2f3b50b2a0276ffae0f1ba63799b87b"
            "7aa3db36dfffd6b0f9bb7878d7a76c13",
        ),
    ],
)
def test_rfc_7714_sections_16_1_1_to_16_2_2(key: bytes, sealed: str) -> None:
    packet = RTP_HEADER + bytes.fromhex(sealed)
    assert gcm(key).seal_rtp(RTP_HEADER, RTP_PAYLOAD, RTP_SSRC, RTP_INDEX) == packet
    assert gcm(key).open_rtp(packet, len(RTP_HEADER), RTP_SSRC, RTP_INDEX) == RTP_PAYLOAD


@pytest.mark.parametrize(
    ("key", "tag"),
    [(KEY_128, "22493f82d2bce397e9d79e3b19aa4216"), (KEY_256, "a866d5910f887463067ceefec45215d4")],
)
def test_rfc_7714_sections_16_1_3_to_16_2_4(key: bytes, tag: str) -> None:
    # Authentication only: all of the packet is associated data, as if it were header.
    packet = RTP_HEADER + RTP_PAYLOAD
    sealed = packet + bytes.fromhex(tag)
    assert gcm(key).seal_rtp(packet, b"", RTP_SSRC, RTP_INDEX) == sealed
    assert gcm(key).open_rtp(sealed, len(packet), RTP_SSRC, RTP_INDEX) == b""


RTCP_VECTORS = [
    pytest.param(
        KEY_128,
        RTCP_ENCRYPTED,
        "81c8000d4d61727363e94885dcdab67ca727d7662f6b7e997ff5c0f76c06f32dc676a5f1730d6fda4ce09b46"
        "86303ded0bb9275bc84aa45896cf4d2fc5abf87245d9eade800005d4",
        id="17.1",
    ),
    pytest.param(
        KEY_256,
        RTCP_ENCRYPTED,
        "81c8000d4d617273d50ae4d1f5ce5d304ba297e47d470c282c3ece5dbffe0a50a2eaa5c1110555be8415f658"
        "c61de0476f1b6fad1d1eb30c4446839f57ff6f6cb26ac3be800005d4",
        id="17.2",
    ),
    pytest.param(KEY_128, 0, RTCP.hex() + "841dd9683dd78ec92ae58790125f62b3000005d4", id="17.3"),
    pytest.param(KEY_256, 0, RTCP.hex() + "91db4afbfeee5a978fab4393ed2615fe000005d4", id="17.4"),
]


@pytest.mark.parametrize(("key", "flag", "expected"), RTCP_VECTORS)
def test_rfc_7714_section_17(key: bytes, flag: int, expected: str) -> None:
    packet = bytes.fromhex(expected)
    cipher = gcm(key)
    assert cipher.seal_rtcp(RTCP, RTCP_SSRC, flag | RTCP_INDEX) == packet
    assert cipher.rtcp_word(packet) == flag | RTCP_INDEX
    assert cipher.open_rtcp(packet, RTCP_SSRC, flag | RTCP_INDEX) == RTCP


KEYSTREAMS = [
    pytest.param(
        "2B7E151628AED2A6ABF7158809CF4F3C",
        "E03EAD0935C95E80E166B16DD92B4EB4D23513162B02D0F72A43A2FE4A5F97AB41E95B3BB0A2E8DD477901E4FCA894C0",
        "EC8CDF7398607CB0F2D21675EA9EA1E4362B7C3C6773516318A077D7FC5073AE6A2CC3787889374FBEB4C81B17BA6C44",
        id="rfc3711-b2",
    ),
    pytest.param(
        "57f82fe3613fd170a85ec93c40b1f0922ec4cb0dc025b58272147cc438944a98",
        "92bdd28a93c3f52511c677d08b5515a49da71b2378a854f67050756ded165bac63c4868b7096d88421b563b8c94c9a31",
        "cea518c90fd91ced9cbb18c078a547113dbc4814f4da5f00a08772b63c6a046d6eb246913062a16891433e97dd01a57f",
        id="rfc6188-7.1",
    ),
]


@pytest.mark.parametrize(("key", "first", "last"), KEYSTREAMS)
def test_the_counter_mode_keystream(key: str, first: str, last: str) -> None:
    keys = SessionKeys(
        encryption=bytes.fromhex(key),
        salt=bytes.fromhex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD"),
        authentication=bytes(20),
    )
    # 65282 blocks of zeros, sealed at ssrc 0 and index 0, are the keystream segment of the vectors.
    sealed = CounterModeCipher(keys, 10).seal_rtp(b"", bytes(65282 * 16), 0, 0)
    assert sealed[:48] == bytes.fromhex(first)
    assert sealed[-58:-10] == bytes.fromhex(last)


def test_the_counter_mode_tag_covers_packet_and_rollover_counter() -> None:
    keys = SessionKeys(encryption=KEY_128, salt=bytes(14), authentication=b"k" * 20)
    sealed = CounterModeCipher(keys, 4).seal_rtp(RTP_HEADER, RTP_PAYLOAD, RTP_SSRC, 0xABCD_0007_F17B)
    expected = hmac.digest(b"k" * 20, sealed[:-4] + bytes.fromhex("abcd0007"), hashlib.sha1)
    assert sealed[-4:] == expected[:4]


def test_counter_mode_srtcp_may_be_authenticated_only() -> None:
    keys = SessionKeys(encryption=KEY_128, salt=bytes(14), authentication=b"k" * 20)
    cipher = CounterModeCipher(keys, 10)
    body = RTCP + bytes.fromhex("000005d4")
    packet = body + hmac.digest(b"k" * 20, body, hashlib.sha1)[:10]
    assert cipher.seal_rtcp(RTCP, RTCP_SSRC, RTCP_INDEX) == packet
    assert cipher.rtcp_word(packet) == RTCP_INDEX
    assert cipher.open_rtcp(packet, RTCP_SSRC, RTCP_INDEX) == RTCP


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("flag", [0, RTCP_ENCRYPTED])
def test_the_encryption_flag_is_authenticated(profile: SrtpProfile, flag: int) -> None:
    _, cipher = make_ciphers(profile, master_of(profile))
    packet = bytearray(cipher.seal_rtcp(RTCP, RTCP_SSRC, flag | RTCP_INDEX))
    packet[-4 if profile.is_aead else -14] ^= 0x80
    word = cipher.rtcp_word(bytes(packet))
    assert word == flag ^ RTCP_ENCRYPTED | RTCP_INDEX
    with pytest.raises(AuthenticationError):
        cipher.open_rtcp(bytes(packet), RTCP_SSRC, word)


@pytest.mark.parametrize("profile", PROFILES)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**48 - 1), st.binary(max_size=200))
def test_sealing_each_is_sealing_one_by_one(profile: SrtpProfile, ssrc: int, index: int, payload: bytes) -> None:
    ciphers: list[AnyCipher] = [make_ciphers(profile, master_of(profile, seed))[0] for seed in range(3)]
    seal_each: Callable[..., bytes] = ciphers[0].seal_each
    together = seal_each([each.leg() for each in ciphers], RTP_HEADER, payload, ssrc, index)
    assert together == b"".join(each.seal_rtp(RTP_HEADER, payload, ssrc, index) for each in ciphers)


def test_a_refusal_names_the_foreign_error_as_its_cause() -> None:
    with pytest.raises(AuthenticationError) as caught:
        gcm(KEY_128).open_rtp(RTP_HEADER + bytes(20), len(RTP_HEADER), RTP_SSRC, RTP_INDEX)
    assert isinstance(caught.value.__cause__, InvalidTag)
