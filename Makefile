# make run    set up, start, deploy the example app, print its URL, leave it running
# make test   everything that is checked: format, lints, docs, unit, integration and end-to-end tests
# make stop   stop what `make run` started; make clean removes it
# make bench  the measured promises, as ratios against references run side by side

.PHONY: run stop clean status test check bench docs

run:
	@scripts/local.sh up

stop:
	@scripts/local.sh stop

clean:
	@scripts/local.sh clean

status:
	@scripts/local.sh status

test:
	@scripts/test.sh

check:
	@scripts/test.sh check

bench:
	@scripts/bench.sh

docs:
	@scripts/docs.sh
