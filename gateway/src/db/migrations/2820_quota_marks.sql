-- How near instances are to their disk quotas, as people were told: 80, 90 or 100 percent, or 0 again.
CREATE TABLE quota_marks (
    instance uuid NOT NULL REFERENCES instances,
    metric   text NOT NULL,
    mark     smallint NOT NULL,
    since    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (instance, metric)
);
