"""Writes Asterisk's files for this container, then becomes Asterisk.

HOME is a tmpfs, so the AMI secret stands in no layer and on no disk; LOG is a volume.
"""

import json
import os
from pathlib import Path

from ivr.asterisk import SOURCE, AsteriskSettings, render
from shared.secret import Secret

ASTERISK = "/usr/sbin/asterisk"
HOME = Path("/run/svi/asterisk")
LOG = Path("/var/log/svi")


def main() -> None:
    """Take the settings from `SVI_…` and from the secret `ami`, which `svi calls` reads too."""
    environment = os.environ
    reach = json.loads(Path("/run/secrets/ami").read_text(encoding="utf-8"))
    settings = AsteriskSettings(
        sip_host="0.0.0.0",  # noqa: S104 - the container's own networks
        sip_port=5060,
        public_host=environment["SVI_PUBLIC_ADDRESS"],
        trunk=environment["SVI_TRUNK"],
        agi_address=environment["SVI_AGI_ADDRESS"],
        ami_host="0.0.0.0",  # noqa: S104 - never published; `ami_permit` says who may come
        ami_port=reach["port"],
        ami_permit=environment["SVI_AMI_PERMIT"],
        ami_secret=Secret(reach["secret"]),
        home=HOME,
        root=Path("/"),
        prompts=Path("/var/lib/svi/prompts"),
        rtp_start=int(environment["SVI_RTP_START"]),
        rtp_end=int(environment["SVI_RTP_END"]),
    )
    os.umask(0o077)
    HOME.mkdir(parents=True)
    (HOME / "log").symlink_to(LOG)
    render(settings, Path(environment.get("SVI_ASTERISK_FILES") or SOURCE))
    os.execv(ASTERISK, [ASTERISK, "-C", str(HOME / "etc/asterisk.conf"), "-f"])  # noqa: S606


if __name__ == "__main__":
    main()
