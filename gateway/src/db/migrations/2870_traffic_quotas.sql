-- How much traffic an app, or all of an organisation's apps together, may take in a month; and what people were told of it.
CREATE TABLE traffic_quotas (
    id           uuid PRIMARY KEY,
    app          uuid UNIQUE REFERENCES apps,
    organisation uuid UNIQUE REFERENCES organisations,
    bytes        bigint NOT NULL CHECK (bytes > 0),
    action       text NOT NULL,
    set_by       text NOT NULL,
    created      timestamptz NOT NULL DEFAULT now(),
    -- The percentage that people were told of last, and when its month began.
    mark         smallint NOT NULL DEFAULT 0,
    month        timestamptz,
    CHECK ((app IS NULL) <> (organisation IS NULL))
);
