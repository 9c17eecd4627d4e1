"""Where a join token leads to, in words."""

from controller.cli.token import where
from controller.enrolment.terms import BrokerTerms
from tests.contracts.enrolments import Office


def test_it_names_the_controller_and_its_broker() -> None:
    office = Office()
    assert where(office.token()) == "at controller.example:1"

    ca_pem = office.terms.server_ca_pem
    office.broker = BrokerTerms("broker.example:2", "broker.example:3", ca_pem)
    told = "at controller.example:1, or through the broker at broker.example:3"
    assert where(office.token()) == told
