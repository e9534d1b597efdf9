from __future__ import annotations

import pytest

from livechat.srtp.profile import SrtpProfile


@pytest.mark.parametrize(
    ("name", "lengths"),
    [
        ("AEAD_AES_128_GCM", (16, 12, 28, 16, 16)),
        ("AEAD_AES_256_GCM", (32, 12, 44, 16, 16)),
        ("AES_CM_128_HMAC_SHA1_80", (16, 14, 30, 10, 10)),
        ("AES_CM_128_HMAC_SHA1_32", (16, 14, 30, 4, 10)),
    ],
)
def test_the_lengths_are_those_of_the_rfcs(name: str, lengths: tuple[int, ...]) -> None:
    profile = SrtpProfile(name)
    assert profile == name
    assert lengths == (
        profile.key_bytes,
        profile.salt_bytes,
        profile.master_bytes,
        profile.rtp_tag_bytes,
        profile.rtcp_tag_bytes,
    )
    assert profile.is_aead == name.endswith("GCM")
