"""The svi command: the only code that knows the voice server, the gateway and the store."""

import gettext
import os
from pathlib import Path

# What click says of itself goes through gettext: admins read French, whatever their machine speaks.
# Before click is imported: some of its sentences are looked up when an option is declared.
os.environ["LANGUAGE"] = "fr"
gettext.bindtextdomain("messages", str(Path(__file__).with_name("locale")))
