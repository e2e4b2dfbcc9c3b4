-- The language of functions that read or change tables of users: PL/pgSQL, with the rights of the
-- tables' owner where the caller's would be lent to code of that role. A volatile function always
-- works with the owner's rights, any other one only for a superuser. See
-- pg_ext/src/table_owner.rs. Only superusers may create functions in it.

CREATE FUNCTION plpgsql_as_owner_handler() RETURNS language_handler
    LANGUAGE c AS 'MODULE_PATHNAME', 'plpgsql_as_owner_handler';
-- PL/pgSQL's own validator under another name: for a language with a function of pg_catalog,
-- pg_upgrade would leave the handler out, and fail.
CREATE FUNCTION plpgsql_as_owner_validator(function oid) RETURNS void
    LANGUAGE c STRICT AS '$libdir/plpgsql', 'plpgsql_validator';
CREATE LANGUAGE plpgsql_as_owner HANDLER plpgsql_as_owner_handler VALIDATOR plpgsql_as_owner_validator;

-- Records who has called a function that writes a row as the owner of its table.
CREATE FUNCTION sign_author() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    IF arx.calling_user() <> current_user THEN
        IF TG_ARGV[0] = 'activated_by' THEN
            NEW.activated_by := arx.calling_user();
        ELSE
            NEW.created_by := arx.calling_user();
        END IF;
    END IF;
    RETURN NEW;
END;
$$;
