"""Masks that `init` proposes, by the words of columns' names."""

from __future__ import annotations

import pytest

from floodmark.doctor.personal_data import suggested_masks

HASHED = """
    noms_number nomsNumber NOMSNumber noms_no nomis_id offender_noms_number prisoner_number prisonerNumber prison_number
    offender_no crn CRN case_crn pnc pnc_number pncNumber pnc_id cro cro_number nino NINO national_insurance_number
    nationalInsuranceNumber national_insurance_no ni_number nhs_number passport_number email e_mail emailAddress
    contact_email_address email_old account_number sort_code uprn prisoner_number_2 crn_enc"""
REDACTED = """
    first_name firstname firstName last_name surname forename forenames middle_names maiden_name full_name known_as
    dob date_of_birth dateOfBirth birth_date birthdate year_of_birth address address_1 addressLine1 address_line_2
    home_address street postcode post_code zip_code phone phone_number phoneNumber mobile_phone mobile telephone_no
    fax_number contact_number contact_name offender_name defendantName prisoner_names victim_alias created_by_name
    next_of_kin_name gender ethnicity ip_address password_hash"""
PLAIN = """
    id created_at status file_name fileName table_name schema_name column_name host_name prison_name court_name
    product_name event_name pay_band_alias column_alias username user_name login display_name note addressed telling
    micro macro acronym acro_number pncs_checked noms_number_verified email_sent_at address_type address_id prison_id
    offender_id booking_no band_no name_type aliased crnt street_type number no"""


@pytest.mark.parametrize("column", HASHED.split())
def test_an_identifier_is_hashed_so_that_joins_stay(column: str) -> None:
    assert suggested_masks([column]) == {column: "hash"}


@pytest.mark.parametrize("column", REDACTED.split())
def test_what_describes_a_person_is_redacted(column: str) -> None:
    assert suggested_masks([column]) == {column: "redact"}


@pytest.mark.parametrize("column", PLAIN.split())
def test_other_names_suggest_nothing(column: str) -> None:
    assert suggested_masks([column], "prison") == {}


def test_a_bare_name_counts_in_a_table_about_persons() -> None:
    assert suggested_masks(["id", "name"], "prison") == {}
    assert suggested_masks(["id", "name"], "file") == {}
    assert suggested_masks(["id", "name", "alias"], "prisoners") == {"name": "redact", "alias": "redact"}
    assert suggested_masks(["id", "Name"], "CaseContact") == {"Name": "redact"}
    assert suggested_masks(["name", "nino"], "t") == {"name": "redact", "nino": "hash"}
    assert list(suggested_masks(["nino", "name", "email"], "t")) == ["nino", "name", "email"], "in the table's order"
    assert suggested_masks([], "person") == {}
