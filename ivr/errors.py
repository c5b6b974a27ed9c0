"""What can be wrong with the files that telephony admins edit."""


class ScriptError(Exception):
    """Findings in the files of `ivr/dialplans`, each « file: key: reason and what to do »."""

    def __init__(self, *findings: str) -> None:
        super().__init__(*findings)
        self.findings = findings

    def __str__(self) -> str:
        return "\n".join(self.findings)
