-- Months that were closed, and what was charged for them. A closed month never changes: what comes later is charged in the
-- month that is closed next.

CREATE TABLE billing_months (
    -- As in 2026-11.
    month     text PRIMARY KEY CHECK (month ~ '^[0-9]{4}-[0-9]{2}$'),
    starts    timestamptz NOT NULL,
    ends      timestamptz NOT NULL CHECK (ends > starts),
    issuer    text NOT NULL,
    currency  text NOT NULL,
    time_zone text NOT NULL,
    -- The prices that it was closed with; corrections are reckoned by the same.
    rates     json NOT NULL,
    charges   integer NOT NULL,
    total     numeric NOT NULL,
    -- Of the export in each format, in hex.
    sha256    jsonb NOT NULL,
    closed    timestamptz NOT NULL DEFAULT now(),
    closed_by text NOT NULL,
    person    uuid NOT NULL REFERENCES people
);

-- What somebody adds or takes off by hand, charged in the month that is closed next.
CREATE TABLE billing_adjustments (
    id           uuid PRIMARY KEY,
    organisation uuid NOT NULL REFERENCES organisations,
    amount       numeric NOT NULL CHECK (amount <> 0),
    currency     text NOT NULL,
    reason       text NOT NULL,
    created      timestamptz NOT NULL DEFAULT now(),
    created_by   text NOT NULL,
    person       uuid NOT NULL REFERENCES people
);

-- Names are as they were when the month was closed.
CREATE TABLE billing_charges (
    month             text NOT NULL REFERENCES billing_months DEFERRABLE INITIALLY DEFERRED,
    number            integer NOT NULL,
    kind              text NOT NULL CHECK (kind IN ('usage', 'correction', 'adjustment')),
    organisation      uuid NOT NULL REFERENCES organisations,
    organisation_name text NOT NULL,
    app               uuid,
    app_name          text,
    instance          uuid,
    label             text,
    cluster           text,
    meter             text,
    price_id          text,
    starts            timestamptz NOT NULL,
    ends              timestamptz NOT NULL,
    consumed          numeric,
    quantity          numeric,
    price             numeric,
    cost              numeric NOT NULL,
    description       text NOT NULL,
    -- The closed month that it corrects.
    corrects          text REFERENCES billing_months,
    adjustment        uuid CONSTRAINT billing_charges_adjustment_key UNIQUE REFERENCES billing_adjustments,
    PRIMARY KEY (month, number)
);
CREATE INDEX billing_charges_corrects_idx ON billing_charges (corrects) WHERE corrects IS NOT NULL;

CREATE TRIGGER billing_months_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON billing_months
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER billing_adjustments_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON billing_adjustments
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER billing_charges_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON billing_charges
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- A month's row comes after its charges, in the same transaction; then nothing is added.
CREATE FUNCTION refuse_charge_of_closed_month() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM added JOIN billing_months USING (month)) THEN
        RAISE EXCEPTION 'the month is closed' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER billing_charges_closed AFTER INSERT ON billing_charges REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_charge_of_closed_month();
